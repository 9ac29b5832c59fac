use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;

fn counts(description: &KeyDistribution, keys: u64, draws: usize) -> Vec<u64> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut chooser = KeyChooser::new(description, keys, 9, 0, 1);
    let mut counts = vec![0; keys as usize];
    for _ in 0..draws {
        counts[chooser.choose(&mut rng, keys) as usize] += 1;
    }
    counts
}

/// Goal: the zipfian is exact over the real key space. Method: χ² of a million draws against the theory, with each
/// rank found again through the permutation.
#[test]
fn scattered_zipfian_passes_a_chi_square_test_over_its_whole_key_space() {
    let (keys, draws, theta) = (1000u64, 1_000_000usize, 0.99);
    let counts = counts(&KeyDistribution::Zipfian { theta }, keys, draws);
    let scatter = Permutation::new(keys, 9);
    let harmonic: f64 = (1..=keys).map(|rank| (rank as f64).powf(-theta)).sum();
    let chi_square: f64 = (0..keys)
        .map(|rank| {
            let expected = draws as f64 * ((rank + 1) as f64).powf(-theta) / harmonic;
            let found = counts[scatter.scatter(rank) as usize] as f64;
            (found - expected).powi(2) / expected
        })
        .sum();
    // 999 degrees of freedom: mean 999, standard deviation 44.7; five of those is far beyond chance.
    assert!(chi_square < 999.0 + 5.0 * 44.7, "χ² {chi_square}");
}

/// The complaint that this harness answers: YCSB's folding over 10^10 items makes the hot key of a million too cold.
#[test]
fn the_hottest_key_of_a_million_has_its_true_share_and_ycsb_mode_has_ycsbs() {
    let (keys, draws) = (1_000_000, 400_000);
    let hottest = |description| {
        *counts(&description, keys, draws)
            .iter()
            .max()
            .expect("not empty") as f64
            / draws as f64
    };
    let harmonic: f64 = (1..=keys).map(|rank| (rank as f64).powf(-0.99)).sum();
    let exact = hottest(KeyDistribution::Zipfian { theta: 0.99 });
    assert!(
        (exact - 1.0 / harmonic).abs() < 0.002,
        "exact {exact}, theory {}",
        1.0 / harmonic
    );
    let folded = hottest(KeyDistribution::YcsbZipfian);
    assert!(
        (folded - 1.0 / YCSB_ZETA).abs() < 0.002,
        "YCSB {folded}, its own constant says {}",
        1.0 / YCSB_ZETA
    );
}

#[test]
fn ycsb_hash_gives_the_values_of_the_java_code() {
    // Math.abs(fnvhash64(0)) and (1), computed by YCSB's Utils.
    assert_eq!(
        fnv1a_64(0),
        (0xa8c7_f832_281a_39c5u64 as i64).unsigned_abs()
    );
    assert_ne!(fnv1a_64(1), fnv1a_64(0));
}

#[test]
fn latest_prefers_the_newest_and_follows_inserts() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut chooser = KeyChooser::new(&KeyDistribution::Latest { theta: 0.99 }, 1000, 9, 0, 1);
    let newest = (0..10_000)
        .filter(|_| chooser.choose(&mut rng, 5000) == 4999)
        .count();
    assert!(
        newest > 1000,
        "the newest key came {newest} times of 10,000"
    );
    assert!(
        (0..1000).all(|_| chooser.choose(&mut rng, 3) < 3),
        "a key beyond those present was chosen"
    );
}

#[test]
fn hotspot_sends_its_share_to_its_fraction() {
    let counts = counts(
        &KeyDistribution::Hotspot {
            hot_fraction: 0.1,
            hot_share: 0.9,
        },
        1000,
        100_000,
    );
    let scatter = Permutation::new(1000, 9);
    let hot: u64 = (0..100)
        .map(|rank| counts[scatter.scatter(rank) as usize])
        .sum();
    assert!(
        (hot as f64 / 100_000.0 - 0.9).abs() < 0.01,
        "{hot} of 100,000 were hot"
    );
}

#[test]
fn exponential_keeps_95_percent_in_its_fraction() {
    let counts = counts(
        &KeyDistribution::Exponential { fraction: 0.5 },
        1000,
        100_000,
    );
    let scatter = Permutation::new(1000, 9);
    let inside: u64 = (0..500)
        .map(|rank| counts[scatter.scatter(rank) as usize])
        .sum();
    assert!(
        (inside as f64 / 100_000.0 - 0.95).abs() < 0.01,
        "{inside} of 100,000 inside"
    );
}

#[test]
fn sequential_workers_cover_every_key_once_a_round() {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut seen = vec![0; 10];
    for worker in 0..2 {
        let mut chooser = KeyChooser::new(&KeyDistribution::Sequential, 10, 0, worker, 2);
        for _ in 0..5 {
            seen[chooser.choose(&mut rng, 10) as usize] += 1;
        }
    }
    assert_eq!(seen, vec![1; 10]);
}

#[test]
fn nonsense_is_refused_in_words() {
    assert!(KeyDistribution::Zipfian { theta: -1.0 }.problem().is_some());
    assert!(
        KeyDistribution::Zipfian { theta: f64::NAN }
            .problem()
            .is_some()
    );
    assert!(
        KeyDistribution::Hotspot {
            hot_fraction: 2.0,
            hot_share: 0.5
        }
        .problem()
        .is_some()
    );
    assert!(
        KeyDistribution::Exponential { fraction: 0.0 }
            .problem()
            .is_some()
    );
}
