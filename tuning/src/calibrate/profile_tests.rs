use super::super::load::Kind;
use super::*;

fn point(kind: Kind, depth: usize, operations_per_s: u64) -> Point {
    Point {
        kind,
        depth,
        bytes: 4096,
        operations_per_s,
        latency_ns_p50: 100_000,
        latency_ns_p99: 200_000,
        latency_ns_p999: 300_000,
        latency_ns_max: 400_000,
        cpu_percent: 20,
        steady: true,
        cpu_bound: false,
        bulk_bytes_per_s: 0,
    }
}

/// A device of two thousand times its depth, up to depth 32.
fn device_model(scale_percent: u64) -> Profile {
    let curve = |kind| {
        [1_usize, 8, 32, 64]
            .map(|depth| {
                point(
                    kind,
                    depth,
                    20 * scale_percent * u64::try_from(depth.min(32)).unwrap(),
                )
            })
            .to_vec()
    };
    Profile::conclude(Measured {
        device: Device {
            name: "nvme0n1".into(),
            model: "Fast Disk".into(),
            fs_type: "xfs".into(),
            serial: "S1".into(),
            size_bytes: 1 << 40,
            ..Device::default()
        },
        reads: curve(Kind::Read),
        writes: curve(Kind::Write),
        durable_writes: curve(Kind::DurableWrite),
        write_then_sync: point(Kind::WriteThenSync, 1, 2000),
        bulk_read: point(Kind::Read, 8, 9000),
        interference: Interference {
            read_ns_p50_alone: 1,
            read_ns_p999_alone: 2,
            read_ns_p50_mixed: 3,
            read_ns_p999_mixed: 4,
            reads_per_s_mixed: 5,
            bulk_write_bytes_per_s: 6,
        },
        block: BlockSize {
            alignment_bytes: 512,
            true_bytes: 4096,
            durable_write_ns_p50: BTreeMap::from([
                ("512".to_owned(), 900),
                ("4096".to_owned(), 300),
            ]),
        },
        sustained: Sustained {
            burst_bytes_per_s: 2_000_000_000,
            steady_bytes_per_s: 400_000_000,
            settled: true,
            seconds: 10.0,
        },
    })
}

#[test]
fn the_depth_recommended_is_the_knee_and_not_the_deepest() {
    let profile = device_model(100);
    assert_eq!(profile.recommend.read_depth, 32);
    assert_eq!(profile.recommend.reads_per_s, 64_000);
    assert_eq!(profile.recommend.block_bytes, 4096);
}

/// As a virtual disk gave them while others used it: the curve dips and creeps.
#[test]
fn one_disturbed_point_neither_ends_the_curve_nor_halves_the_bound() {
    let reads: Vec<Point> = [
        (1, 16_000),
        (2, 15_000),
        (4, 32_000),
        (8, 38_000),
        (16, 45_000),
        (32, 54_000),
        (64, 57_000),
        (128, 58_000),
    ]
    .map(|(depth, rate)| point(Kind::Read, depth, rate))
    .to_vec();
    assert_eq!(knee(&reads), (4, 32_000));
    assert_eq!(plateau(&reads), (32, 54_000));
    assert_eq!(plateau(&[]), (1, 0));
}

#[test]
fn background_work_is_paced_by_the_steady_rate_not_by_the_burst() {
    assert_eq!(
        device_model(100).recommend.background_bytes_per_s,
        100_000_000
    );
}

#[test]
fn a_profile_survives_its_file() {
    let path =
        std::env::temp_dir().join(format!("gramme-tune-profile-{}.toml", std::process::id()));
    let profile = device_model(100);
    save_profile(&path, &profile).unwrap();
    let read = load_profile(&path).unwrap().unwrap();
    fs::remove_file(&path).unwrap();
    assert_eq!(read, profile);
    assert!(load_profile(&path).unwrap().is_none());
}

#[test]
fn a_damaged_profile_is_an_error_that_names_the_file() {
    let path =
        std::env::temp_dir().join(format!("gramme-tune-damaged-{}.toml", std::process::id()));
    fs::write(&path, "format = \"one\"").unwrap();
    let error = load_profile(&path).unwrap_err().to_string();
    fs::remove_file(&path).unwrap();
    assert!(error.contains("gramme-tune-damaged"), "{error}");
}

#[test]
fn a_swapped_disk_and_a_slower_one_are_both_noticed() {
    let before = device_model(100);
    let mut other = device_model(100);
    assert_eq!(unlike_last_time(&other, &before), Vec::<String>::new());
    other.device.serial = "S2".into();
    assert_eq!(
        unlike_last_time(&other, &before),
        ["the serial number was \"S1\" and is \"S2\""]
    );
    let slower = unlike_last_time(&device_model(50), &before);
    assert!(
        slower.iter().any(|line| line.contains("reads at depth 32")),
        "{slower:?}"
    );
    // The same disk under another name after a restart is no news.
    let mut renamed = device_model(100);
    renamed.device.name = "nvme1n1".into();
    assert_eq!(unlike_last_time(&renamed, &before), Vec::<String>::new());
}

#[test]
fn doubtful_points_are_told() {
    let mut profile = device_model(100);
    assert!(profile.doubts().is_empty());
    profile.sustained.settled = false;
    profile
        .reads
        .iter_mut()
        .for_each(|point| point.cpu_bound = true);
    assert_eq!(profile.doubts().len(), 2);
}

/// The node reads this very sample in a test of its own: what the two share is this file's format.
#[test]
fn the_sample_for_the_node_is_what_is_written() {
    let mut profile = device_model(100);
    profile.measured_at_s = 1_764_000_000;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/io.sample.toml");
    let text = text_of(&profile).unwrap();
    if std::env::var_os("GRAMME_BLESS").is_some() {
        fs::write(path, &text).unwrap();
    }
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        text,
        "GRAMME_BLESS=1 writes it anew; a node of today must still read it"
    );
}
