//! What people write: the configuration, and the lines of an import.

use gramme::config::File;
use gramme::export_line::Line;
use gramme_core::version::ObjectView;

/// Any text is a configuration or an error that says where; what is one can be resolved or says why not.
pub(super) fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match File::parse(&text) {
        Ok(file) => {
            assert!(
                file.bucket_views().len()
                    > file.buckets.len() - usize::from(file.buckets.contains_key("default"))
            );
            assert_eq!(file.buckets().len(), file.buckets.len());
            let _ = (file.commit_interval(), file.spin_max());
            let flags = File {
                data: Some("d".into()),
                ..File::default()
            };
            if let Err(error) = file.overridden_by(flags).resolve() {
                assert!(!error.to_string().is_empty());
            }
        }
        Err(error) => assert!(error.to_string().starts_with("line "), "{error}"),
    }
}

/// Any line is one of an export or an error; what it says can be asked for.
pub(super) fn import(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for line in text.lines() {
        let Ok(line) = Line::parse(line) else {
            continue;
        };
        let said = serde_json::to_string(&line).expect("a line can be written");
        assert_eq!(
            Line::parse(&said).as_ref(),
            Ok(&line),
            "what was written is read"
        );
        let _ = (line.key(), line.value());
        if let (Ok(key), Ok(Some(object))) = (line.key(), line.object())
            && ObjectView::parse(&object).is_ok()
        {
            let again = Line::of("default", &key, &object, 1_700_000_000_000);
            let again = again.expect("it can be read");
            if let Some(again) = again {
                assert_eq!(again.key(), Ok(key));
            }
        }
    }
}

/// The sample as shipped, with every key in force, and some that are wrong.
pub(super) fn config_seeds() -> Vec<Vec<u8>> {
    let sample = include_str!("../../../net/gramme.sample.toml");
    let in_force = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting.to_owned() + "\n",
        _ => String::new(),
    };
    let all: String = sample.lines().map(in_force).collect();
    let short = [
        "data = \"d\"\nshards = 2\n",
        "join = [\"a:7400\", \"[::1]:7400\"]\nadvertise = \"b:1\"\ninsecure = true\n",
        "memory_byte = 5\n",
        "[buckets.b]\nn = 2\nr = 3\nttl_ms = 18446744073709551615\n[buckets.\"\u{fc}\"]\nconflict = \"lww\"\n",
        "a.b.c.d = { e = [[[[1]]]] }\n",
        "weight = -1\nlisten = \"0.0.0.0:70000\"\n",
    ];
    std::iter::once(all)
        .chain(short.map(str::to_owned))
        .map(String::into_bytes)
        .collect()
}

/// An export's lines.
pub(super) fn import_seeds() -> Vec<Vec<u8>> {
    let object = super::native::object();
    let line = Line::of("carts", b"\xff\x00", &object, 1_700_000_000_000);
    let line = line.expect("an object").expect("alive");
    let with_object = format!(
        "{{\"bucket\":\"carts\",\"key\":\"c\",\"value\":\"v\",\"object_base64\":\"{}\"}}",
        base64_of(&object)
    );
    let lines = [
        serde_json::to_string(&line).expect("written"),
        with_object,
        r#"{"bucket":"default","key":"a","value":"1","expires_at_ms":1790000000000}"#.to_owned(),
        r#"{"bucket":"default","key_base64":"/w==","value_base64":"/w=="}"#.to_owned(),
        r#"{"cursor":{"bucket":"default","shard":0,"next":17}}"#.to_owned(),
        r#"{"key":"a","key_base64":"YQ==","value":"\ud83d\ude00"}"#.to_owned(),
    ];
    let all = lines.join("\n");
    lines
        .into_iter()
        .chain([all])
        .map(String::into_bytes)
        .collect()
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}
