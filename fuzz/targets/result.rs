//! Result documents: each is read, or refused with a reason; and a record is written as a document of the same record.

#![no_main]

use libfuzzer_sys::fuzz_target;
use taskq::TaskId;
use taskq::internal::codec::result;

fuzz_target!(|document: &[u8]| {
    let id = TaskId::parse("id").expect("it is an id");
    let record = match result::decode(&id, document) {
        Ok(record) => record,
        Err(error) => return assert!(error.to_string().starts_with("the result of task id cannot be read: ")),
    };
    let written = result::encode(&record);
    // Redis decides by these bytes whether the document may be replaced.
    assert!(written.starts_with(b"{\"status\":"));
    let again = result::decode(&id, &written).expect("taskq reads what it writes");
    assert_eq!((&again.state, again.generation, again.attempt), (&record.state, record.generation, record.attempt));
    assert_eq!(result::encode(&again), written);
});
