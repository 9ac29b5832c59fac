//! One key as a line of JSON: what `gramme data export` writes and `import` reads.
//!
//! ```text
//! {"bucket":"default","key":"a","value":"1","expires_at_ms":1790000000000}
//! {"bucket":"default","key_base64":"/w==","value_base64":"/w=="}
//! {"bucket":"carts","key":"c","value":"the latest","object_base64":"…"}      a key with siblings: all of them
//! {"cursor":{"bucket":"default","shard":0,"next":17}}                        everything before is complete
//! ```
//! `key` and `value` are text; `…_base64` is used where the bytes are no UTF-8.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use gramme_core::version::ObjectView;
use serde::{Deserialize, Serialize};

/// A line.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    /// Where an export goes on; everything before this line is complete.
    pub cursor: Option<Place>,
    /// The bucket; the default one when not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// When the value expires, in milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    object_base64: Option<String>,
}

/// Where an export goes on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The bucket that is read.
    pub bucket: String,
    /// The shard that is read.
    pub shard: u16,
    /// Its scan's cursor.
    pub next: u64,
    /// Keys and places before it that could not be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unreadable: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

fn split(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(BASE64_STANDARD.encode(bytes))),
    }
}

fn join(name: &str, text: Option<&str>, base64: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!(
            "both `{name}` and `{name}_base64`; say one of them"
        )),
        (Some(text), None) => Ok(Some(text.as_bytes().to_vec())),
        (None, Some(base64)) => {
            let decoded = BASE64_STANDARD.decode(base64);
            decoded
                .map(Some)
                .map_err(|error| format!("`{name}_base64` is no base64: {error}"))
        }
        (None, None) => Ok(None),
    }
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// A key's line; `None` when nothing of the object is alive at this time.
    ///
    /// # Errors
    /// The object cannot be read.
    pub fn of(
        bucket: &str,
        key: &[u8],
        object: &[u8],
        now_ms: u64,
    ) -> Result<Option<Self>, String> {
        let view = ObjectView::parse(object).map_err(|error| error.to_string())?;
        let live = || view.live(now_ms);
        let Some(latest) = live().max_by_key(|sibling| sibling.dot.rank()) else {
            return Ok(None);
        };
        let (key, key_base64) = split(key);
        let (value, value_base64) = split(latest.live_value(now_ms).unwrap_or_default());
        Ok(Some(Self {
            bucket: Some(bucket.to_owned()),
            key,
            key_base64,
            value,
            value_base64,
            expires_at_ms: latest.expires_at_ms,
            object_base64: (live().count() > 1).then(|| BASE64_STANDARD.encode(object)),
            cursor: None,
        }))
    }

    /// The line that everything before it is complete.
    pub fn complete(place: Place) -> Self {
        Self {
            cursor: Some(place),
            ..Self::default()
        }
    }

    /// The key.
    ///
    /// # Errors
    /// It is missing where it must be there, said twice, or no base64.
    pub fn key(&self) -> Result<Vec<u8>, String> {
        let key = join("key", self.key.as_deref(), self.key_base64.as_deref())?;
        key.ok_or_else(|| "neither `key` nor `key_base64`".to_owned())
    }

    /// The value.
    ///
    /// # Errors
    /// It is missing where it must be there, said twice, or no base64.
    pub fn value(&self) -> Result<Vec<u8>, String> {
        let value = join("value", self.value.as_deref(), self.value_base64.as_deref())?;
        value.ok_or_else(|| "neither `value` nor `value_base64`".to_owned())
    }

    /// The object, of a key with siblings.
    ///
    /// # Errors
    /// It is missing where it must be there, said twice, or no base64.
    pub fn object(&self) -> Result<Option<Vec<u8>>, String> {
        join("object", None, self.object_base64.as_deref())
    }
}
