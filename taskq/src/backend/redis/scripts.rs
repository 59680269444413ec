//! Lua scripts that run in the server, each as one atomic step.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, Script};

use super::journal::{FactWrite, RecordWrite};

/// Stores a result document and publishes it, unless the stored one must stay: `Record::may_replace` is the rule.
/// Answers 1 if it was stored and 0 if the stored one was kept. That the user may not publish takes nothing from what
/// was stored; [`info`](super::server::info) tells of it.
///
/// KEYS: the document's key, which is also the channel. ARGV: the document, its generation, its TTL in ms or 0.
///
/// Most documents are the first of their key, so that case is tried first. The first bytes of a stored document give
/// its state and generation, in our form or in Python's (with blanks). Only if another program wrote them in another
/// order is the document parsed as a whole.
const WRITE: &str = r#"
local key, document, ttl = KEYS[1], ARGV[1], ARGV[3]
local call = redis.call
local fresh
if ttl == '0' then
  fresh = call('SET', key, document, 'NX')
else
  fresh = call('SET', key, document, 'NX', 'PX', ttl)
end
if not fresh then
  local generation = tonumber(ARGV[2])
  local head = call('GETRANGE', key, 0, 127)
  local status, next, digits = string.match(head, '^{"status": ?"([A-Z]+)", ?"(%a+)": ?(%d*)')
  local stored = 0
  if next == 'generation' and digits ~= '' then
    stored = tonumber(digits)
  elseif next ~= 'result' then
    local readable, whole = pcall(cjson.decode, call('GET', key))
    if readable and type(whole) == 'table' then
      status, stored = whole.status, tonumber(whole.generation) or 0
    else
      status = nil
    end
  end
  local terminal = status == 'SUCCESS' or status == 'FAILURE' or status == 'REVOKED'
  if generation < stored or (generation == stored and terminal) then return 0 end
  if ttl == '0' then
    call('SET', key, document)
  else
    call('SET', key, document, 'PX', ttl)
  end
end
redis.pcall('PUBLISH', key, document)
return 1
"#;

/// Stores a value if the stored one is as expected. Answers `{1}`, or `{0, stored value}`.
///
/// KEYS: the key. ARGV: the value, its TTL in ms or 0, and the expected value; if the last is absent, no value is
/// expected.
const COMPARE_AND_PUT: &str = r"
local there = redis.call('GET', KEYS[1])
if there ~= (ARGV[3] or false) then return {0, there} end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return {1}
";

/// Deletes a key if its value is as expected. Answers `{1}`, or `{0, stored value}`.
///
/// KEYS: the key. ARGV: the expected value.
const COMPARE_AND_DELETE: &str = r"
local there = redis.call('GET', KEYS[1])
if there ~= ARGV[1] then return {0, there} end
redis.call('DEL', KEYS[1])
return {1}
";

/// Stores a value once more that another server may have lost: over the value that it had replaced, or, if the caller
/// says so, where nothing is stored. Answers 1 if it was stored and 0 if another value was there.
///
/// KEYS: the key. ARGV: the value, its TTL in ms or 0, whether it is stored where nothing is, and the value that it had
/// replaced; if the last is absent, it had replaced none.
const RESTORE: &str = r"
local there = redis.call('GET', KEYS[1])
if there then
  if there ~= ARGV[4] then return 0 end
elseif ARGV[3] ~= '1' then
  return 0
end
if ARGV[2] == '0' then
  redis.call('SET', KEYS[1], ARGV[1])
else
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return 1
";

/// A script and its hash, by which the server finds it.
pub(super) struct HashedScript {
    code: &'static str,
    hash: String,
}

impl HashedScript {
    fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().to_owned() }
    }

    /// A call of this script for `key`; arguments may be appended.
    pub(super) fn call(&self, key: &str) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hash).arg(1).arg(key);
        call
    }
}

static WRITE_RECORD: LazyLock<HashedScript> = LazyLock::new(|| HashedScript::new(WRITE));
pub(super) static PUT_IF: LazyLock<HashedScript> = LazyLock::new(|| HashedScript::new(COMPARE_AND_PUT));
pub(super) static DELETE_IF: LazyLock<HashedScript> = LazyLock::new(|| HashedScript::new(COMPARE_AND_DELETE));

static RESTORE_FACT: LazyLock<HashedScript> = LazyLock::new(|| HashedScript::new(RESTORE));

/// The call that stores a record and publishes it.
pub(super) fn write_record(key: &str, document: &[u8], generation: u32, ttl_ms: Option<u64>) -> Cmd {
    let mut call = WRITE_RECORD.call(key);
    call.arg(document).arg(generation).arg(ttl_ms.unwrap_or(0));
    call
}

/// The call that stores a record once more.
pub(super) fn restore_record(record: &RecordWrite) -> Cmd {
    write_record(&record.key, &record.document, record.generation, record.ttl_ms)
}

/// The call that stores a fact once more.
pub(super) fn restore_fact(fact: &FactWrite) -> Cmd {
    let mut call = RESTORE_FACT.call(&fact.key);
    call.arg(&fact.value[..]).arg(fact.ttl_ms.unwrap_or(0)).arg(u8::from(fact.ttl_ms.is_some()));
    if let Some(expected) = &fact.expected {
        call.arg(&expected[..]);
    }
    call
}

/// The commands that load all scripts into the server. They are sent on each new connection.
pub(super) fn load() -> Pipeline {
    let mut load = Pipeline::new();
    for script in [&WRITE_RECORD, &PUT_IF, &DELETE_IF, &RESTORE_FACT] {
        load.cmd("SCRIPT").arg("LOAD").arg(script.code).ignore();
    }
    load
}
