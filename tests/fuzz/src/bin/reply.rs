//! An upstream's replies: the same however the input is cut, and incomplete input stays in the buffer.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use mailferry::transport::smtp::reply::take;

fn read(input: &[u8], cut: usize) -> (Vec<String>, bool) {
    let (mut buffer, mut replies) = (BytesMut::new(), Vec::new());
    for chunk in input.chunks(cut.max(1)) {
        buffer.extend_from_slice(chunk);
        loop {
            match take(&mut buffer) {
                Ok(Some(reply)) => replies.push(reply.to_string()),
                Ok(None) => break,
                Err(_) => return (replies, true),
            }
        }
    }
    (replies, false)
}

fuzz_target!(|input: &[u8]| {
    let [cut, input @ ..] = input else {
        return;
    };
    assert_eq!(read(input, usize::from(*cut)), read(input, usize::MAX));
});
