//! Mounts: `/proc/self/mountinfo` as values.
//!
//! Owns the parser and the question which mount holds a directory.
//! Never asks the file system itself.

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the device.
    pub device: String,
    /// Where it is mounted.
    pub point: String,
    /// `ext4`, `xfs`, …
    pub fs_type: String,
    /// What is mounted, e.g. `/dev/nvme0n1p1`.
    pub source: String,
    /// The mount's options and the file system's own.
    pub options: Vec<String>,
}

impl Mount {
    /// Whether an option is set.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|own| own == option)
    }
}

/// Reads `mountinfo`; lines that are no mounts are passed over.
pub fn parse(text: &str) -> Vec<Mount> {
    text.lines().filter_map(parse_line).collect()
}

/// The mount that holds `dir` (an absolute path): the longest point that is a prefix of it, the last of equals.
pub fn holder<'a>(mounts: &'a [Mount], dir: &str) -> Option<&'a Mount> {
    let covers = |point: &str| {
        let point = point.trim_end_matches('/');
        dir.strip_prefix(point)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    // `max_by_key` keeps the last of equals: the mount on top of the others.
    mounts
        .iter()
        .filter(|mount| covers(&mount.point))
        .max_by_key(|mount| mount.point.len())
}

fn parse_line(line: &str) -> Option<Mount> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let device = left.next()?.to_owned();
    let point = unescape(left.nth(1)?);
    let own = left.next()?;
    let mut right = right.split(' ');
    let fs_type = right.next()?.to_owned();
    let source = unescape(right.next()?);
    let of_fs = right.next().unwrap_or_default();
    let options = own
        .split(',')
        .chain(of_fs.split(','))
        .filter(|o| !o.is_empty())
        .map(str::to_owned)
        .collect();
    Some(Mount {
        device,
        point,
        fs_type,
        source,
        options,
    })
}

/// A blank in a path is written `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
        30 27 259:1 / /var/lib/gr\\040amme rw,noatime - xfs /dev/nvme0n1p1 rw\n\
        garbage\n";

    #[test]
    fn the_longest_point_holds_a_directory() {
        let mounts = parse(TEXT);
        assert_eq!(mounts.len(), 2);
        assert_eq!(
            holder(&mounts, "/var/lib/gr amme/data").unwrap().fs_type,
            "xfs"
        );
        assert_eq!(
            holder(&mounts, "/var/lib/gr ammeX").unwrap().fs_type,
            "ext4"
        );
        assert!(holder(&mounts, "/").unwrap().has("discard"));
    }
}
