//! Who may change the cluster: where the node has a token, a command that changes something must say it.
//!
//! It comes as one more field of the command, `token`, which is taken out before the core sees it: the core refuses
//! fields that it does not know, and is to hold no secret.

use std::borrow::Cow;

use serde_json::{Map, Value};

use crate::secret::Secret;

/// Where a command has its token.
pub(crate) const TOKEN_FIELD: &str = "token";

/// The longest command; a longer one is none.
pub(crate) const COMMAND_BYTES_MAX: usize = 64 << 10;

/// What is handed on of an operator's command; or why nothing is.
pub(super) fn permitted<'a>(
    token: Option<&Secret>,
    command: &'a [u8],
) -> Result<Cow<'a, [u8]>, &'static str> {
    if command.len() > COMMAND_BYTES_MAX {
        return Err("a command is not as long as this");
    }
    // What is no command, the core says.
    let Ok(mut said) = serde_json::from_slice::<Map<String, Value>>(command) else {
        return Ok(Cow::Borrowed(command));
    };
    let given = said.remove(TOKEN_FIELD);
    if let Some(token) = token
        && !only_looks(&said)
    {
        let Some(given) = given.as_ref() else {
            return Err("this changes the cluster and needs the operators' token; \
                 set GRAMME_ADMIN_TOKEN, or name its file with --admin-token-file");
        };
        if !given
            .as_str()
            .is_some_and(|given| token.is(given.as_bytes()))
        {
            return Err("the operators' token is a wrong one; nothing was done");
        }
    }
    Ok(match given {
        None => Cow::Borrowed(command),
        Some(_) => Cow::Owned(Value::Object(said).to_string().into_bytes()),
    })
}

/// Whether a command changes nothing. One that is not known here may.
fn only_looks(command: &Map<String, Value>) -> bool {
    match command.get("command").and_then(Value::as_str) {
        Some("status" | "ring" | "plan") => true,
        Some("buckets") => !command.contains_key("set"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_needs_the_token_and_the_core_never_sees_it() {
        let token = Secret::new(b"right").expect("a secret");
        let asked = |command: &str| {
            let asked = permitted(Some(&token), command.as_bytes());
            asked.map(|handed_on| String::from_utf8(handed_on.into_owned()).expect("text"))
        };
        for look in [
            r#"{"command":"status"}"#,
            r#"{"command":"buckets"}"#,
            "no JSON",
        ] {
            assert_eq!(asked(look), Ok(look.to_owned()));
        }
        for change in [
            r#"{"command":"commit"}"#,
            r#"{"command":"buckets","set":{}}"#,
            "{}",
        ] {
            assert!(asked(change).is_err_and(|why| why.contains("GRAMME_ADMIN_TOKEN")));
        }
        let said = r#"{"command":"commit","token":"right"}"#;
        assert_eq!(asked(said), Ok(r#"{"command":"commit"}"#.to_owned()));
        for wrong in ["\"wrong\"", "7", "null"] {
            assert!(asked(&format!(r#"{{"command":"commit","token":{wrong}}}"#)).is_err());
        }
    }

    #[test]
    fn what_is_too_long_for_a_command_is_not_looked_at() {
        let long = format!(
            r#"{{"command":"status","x":"{}"}}"#,
            "x".repeat(COMMAND_BYTES_MAX)
        );
        assert!(permitted(None, long.as_bytes()).is_err_and(|why| why.contains("long")));
    }

    #[test]
    fn a_node_without_a_token_takes_whatever_is_said() {
        let handed_on = permitted(None, br#"{"command":"commit","token":"any"}"#);
        assert_eq!(
            handed_on.as_deref(),
            Ok(br#"{"command":"commit"}"#.as_slice())
        );
    }
}
