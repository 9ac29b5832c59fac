//! The commands that are there: names, how many words they take, what they run.

use super::session::RespSession;
use super::words::{Refusal, Words};
use crate::reactor::session::Io;

type Run = fn(&mut RespSession, &mut Io<'_>, &Words<'_>) -> Result<(), Refusal>;

/// One command.
pub(super) struct Command {
    /// In lower case.
    pub(super) name: &'static str,
    /// Words behind the name, at least.
    words_min: usize,
    /// Words behind the name, at most.
    words_max: usize,
    /// As `COMMAND` tells them.
    pub(super) flags: &'static [&'static str],
    /// First and last key and the step between them, as `COMMAND` tells them.
    pub(super) keys: (i64, i64, i64),
    /// What it is for.
    pub(super) summary: &'static str,
    /// Whether it may be given before the password.
    pub(super) is_for_strangers: bool,
    pub(super) run: Run,
}

impl Command {
    /// Whether it takes so many words behind its name.
    pub(super) const fn takes(&self, words: usize) -> bool {
        self.words_min <= words && words <= self.words_max
    }

    /// As Redis counts: with the name, negative where more may follow.
    pub(super) const fn arity(&self) -> i64 {
        let least = self.words_min as i64 + 1;
        if self.words_min == self.words_max {
            least
        } else {
            -least
        }
    }
}

const MANY: usize = usize::MAX;
const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const PLAIN: &[&str] = &["loading", "stale", "fast"];
const NONE: (i64, i64, i64) = (0, 0, 0);
const ONE: (i64, i64, i64) = (1, 1, 1);
const ALL: (i64, i64, i64) = (1, -1, 1);

const fn command(
    name: &'static str,
    words: (usize, usize),
    (flags, keys): (&'static [&'static str], (i64, i64, i64)),
    run: Run,
    summary: &'static str,
) -> Command {
    Command {
        name,
        words_min: words.0,
        words_max: words.1,
        flags,
        keys,
        summary,
        is_for_strangers: false,
        run,
    }
}

const fn for_strangers(command: Command) -> Command {
    Command {
        is_for_strangers: true,
        ..command
    }
}

type S = RespSession;

/// All of them; the commonest first, since a name is looked for in this order.
pub(super) static COMMANDS: &[Command] = &[
    command(
        "get",
        (1, 1),
        (READ, ONE),
        S::get,
        "The latest value of a key",
    ),
    command("set", (2, MANY), (WRITE, ONE), S::set, "Sets a key's value"),
    command("del", (1, MANY), (WRITE, ALL), S::del, "Deletes keys"),
    command(
        "mget",
        (1, MANY),
        (READ, ALL),
        S::mget,
        "The values of keys",
    ),
    command(
        "mset",
        (2, MANY),
        (WRITE, (1, -1, 2)),
        S::mset,
        "Sets keys, each by itself",
    ),
    command(
        "exists",
        (1, MANY),
        (READ, ALL),
        S::exists,
        "How many of the keys are there",
    ),
    command("ping", (0, 1), (PLAIN, NONE), S::ping, "Answers"),
    command(
        "echo",
        (1, 1),
        (PLAIN, NONE),
        S::echo,
        "Answers with its argument",
    ),
    command("unlink", (1, MANY), (WRITE, ALL), S::del, "Deletes keys"),
    command(
        "getdel",
        (1, 1),
        (WRITE, ONE),
        S::getdel,
        "The value of a key, which is deleted",
    ),
    command(
        "getex",
        (1, MANY),
        (WRITE, ONE),
        S::getex,
        "The value of a key, whose expiry is changed",
    ),
    command(
        "strlen",
        (1, 1),
        (READ, ONE),
        S::strlen,
        "The length of a value",
    ),
    command(
        "ttl",
        (1, 1),
        (READ, ONE),
        S::ttl,
        "Seconds until a key expires",
    ),
    command(
        "pttl",
        (1, 1),
        (READ, ONE),
        S::pttl,
        "Milliseconds until a key expires",
    ),
    command(
        "expire",
        (2, MANY),
        (WRITE, ONE),
        S::expire,
        "Expires a key after seconds",
    ),
    command(
        "pexpire",
        (2, MANY),
        (WRITE, ONE),
        S::pexpire,
        "Expires a key after milliseconds",
    ),
    command(
        "persist",
        (1, 1),
        (WRITE, ONE),
        S::persist,
        "Lets a key never expire",
    ),
    command(
        "type",
        (1, 1),
        (READ, ONE),
        S::key_type,
        "The type of a key: string",
    ),
    command(
        "scan",
        (1, MANY),
        (READ, NONE),
        S::scan,
        "Walks over all keys",
    ),
    command(
        "dbsize",
        (0, 0),
        (READ, NONE),
        S::dbsize,
        "How many keys there are",
    ),
    command(
        "dyn.get",
        (1, 1),
        (READ, ONE),
        S::dyn_get,
        "A key's context and all its values",
    ),
    command(
        "dyn.put",
        (3, 5),
        (WRITE, ONE),
        S::dyn_put,
        "Writes a value after a context",
    ),
    command(
        "dyn.del",
        (2, 2),
        (WRITE, ONE),
        S::dyn_del,
        "Deletes what a context covers",
    ),
    command(
        "dyn.bucket",
        (1, 1),
        (PLAIN, NONE),
        S::dyn_bucket,
        "This connection's bucket from now on",
    ),
    command(
        "dyn.opt",
        (2, MANY),
        (PLAIN, NONE),
        S::dyn_opt,
        "This connection's options from now on",
    ),
    for_strangers(command(
        "hello",
        (0, MANY),
        (PLAIN, NONE),
        S::hello,
        "Chooses the protocol's version",
    )),
    for_strangers(command(
        "auth",
        (1, MANY),
        (PLAIN, NONE),
        S::auth,
        "Says the password",
    )),
    for_strangers(command(
        "quit",
        (0, MANY),
        (PLAIN, NONE),
        S::quit,
        "Ends the connection",
    )),
    for_strangers(command(
        "reset",
        (0, 0),
        (PLAIN, NONE),
        S::reset_all,
        "The connection as at its beginning",
    )),
    command(
        "select",
        (1, 1),
        (PLAIN, NONE),
        S::select,
        "Chooses database 0, the only one",
    ),
    command(
        "client",
        (1, MANY),
        (PLAIN, NONE),
        S::client,
        "About this connection",
    ),
    command(
        "command",
        (0, MANY),
        (PLAIN, NONE),
        S::command_info,
        "About the commands",
    ),
    command("info", (0, MANY), (PLAIN, NONE), S::info, "About the node"),
    command(
        "config",
        (1, MANY),
        (PLAIN, NONE),
        S::config,
        "What the node is told",
    ),
];

/// The command of a name.
pub(super) fn find(name: &[u8]) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

/// What a command is answered that is not there.
pub(super) fn unknown(words: &Words<'_>) -> Refusal {
    const BYTES_MAX: usize = 128;
    let shorten = |word: &[u8], bytes_max: usize| {
        let word = word.get(..bytes_max).unwrap_or(word);
        String::from_utf8_lossy(word).into_owned()
    };
    let mut list = String::new();
    for at in 0..words.len() {
        if list.len() >= BYTES_MAX {
            break;
        }
        let word = shorten(words.get(at), BYTES_MAX - list.len());
        list.push_str(&format!("'{word}' "));
    }
    let name = shorten(words.name(), BYTES_MAX);
    format!("ERR unknown command '{name}', with args beginning with: {list}")
}
