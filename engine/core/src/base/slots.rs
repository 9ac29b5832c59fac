//! A table whose places are used again, each with a generation: a late answer to a former user is recognised.

/// A place and its generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct SlotId {
    /// The place.
    pub index: u32,
    /// Its user's number, 16 bits.
    pub generation: u16,
}

struct Place<T> {
    generation: u16,
    held: Option<T>,
}

/// The table.
pub struct Slots<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Slots<T> {
    /// Puts something in.
    pub fn insert(&mut self, held: T) -> SlotId {
        self.len += 1;
        if let Some(index) = self.free.pop() {
            let place = &mut self.places[index as usize];
            place.held = Some(held);
            return SlotId {
                index,
                generation: place.generation,
            };
        }
        self.places.push(Place {
            generation: 0,
            held: Some(held),
        });
        SlotId {
            index: (self.places.len() - 1) as u32,
            generation: 0,
        }
    }

    /// What is there, if it is still that user's.
    pub fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        self.places
            .get_mut(id.index as usize)
            .filter(|place| place.generation == id.generation)?
            .held
            .as_mut()
    }

    /// Takes it out.
    pub fn remove(&mut self, id: SlotId) -> Option<T> {
        let place = self
            .places
            .get_mut(id.index as usize)
            .filter(|place| place.generation == id.generation)?;
        let held = place.held.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(id.index);
        self.len -= 1;
        Some(held)
    }

    /// The ids of all that are in use.
    pub fn ids(&self) -> impl Iterator<Item = SlotId> + '_ {
        self.places
            .iter()
            .enumerate()
            .filter(|(_, place)| place.held.is_some())
            .map(|(index, place)| SlotId {
                index: index as u32,
                generation: place.generation,
            })
    }

    /// How many are in use.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_user_of_a_place_finds_nothing_there() {
        let mut slots = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!((second.index, slots.len()), (first.index, 1));
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
    }
}
