//! Reads and writes protobuf messages as lists of fields, for programs that copy a file and change a few of
//! its messages.
//!
//! Nothing is interpreted here: fields unknown to the program keep their bytes.

/// Wire type of strings, bytes and messages.
const LENGTH: u64 = 2;

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    /// All bytes of the field, including its tag.
    pub whole: &'a [u8],
    /// The contents of a length-delimited field; empty for other fields.
    pub payload: &'a [u8],
}

/// The fields of a message; `None` at the first that cannot be read, which ends the iteration.
#[derive(Clone, Debug)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<Field<'a>> {
        let start = self.0;
        let tag = self.varint()?;
        let mut payload: &[u8] = &[];
        match tag & 7 {
            0 => drop(self.varint()?),
            1 => drop(self.take(8)?),
            LENGTH => {
                let length = usize::try_from(self.varint()?).ok()?;
                payload = self.take(length)?;
            }
            5 => drop(self.take(4)?),
            _ => return None,
        }
        Some(Field { number: tag >> 3, whole: &start[..start.len() - self.0.len()], payload })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

/// The strings under `number` in a message. A name that is not UTF-8 is skipped: [`decode`](crate::decode())
/// refuses it.
pub fn texts(message: &[u8], number: u64) -> impl Iterator<Item = &str> {
    Fields(message)
        .flatten()
        .filter(move |field| field.number == number)
        .filter_map(|field| std::str::from_utf8(field.payload).ok())
}

/// The string under `number` in a message.
pub fn text(message: &[u8], number: u64) -> Option<&str> {
    texts(message, number).last()
}

/// Appends a length-delimited field: a string, bytes or a message.
pub fn put(out: &mut Vec<u8>, number: u64, payload: &[u8]) {
    put_varint(out, number << 3 | LENGTH);
    put_varint(out, payload.len() as u64);
    out.extend(payload);
}

/// Appends a numeric field.
pub fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_messages_end() {
        for bytes in [&[0x0a][..], &[0x0a, 0xff, 0xff], &[0x0b], &[0xff; 12], &[0x09, 1, 2]] {
            let fields: Vec<bool> = Fields(bytes).map(|field| field.is_some()).collect();
            assert_eq!(fields, [false], "{bytes:?}");
        }
        assert_eq!(Fields(&[0x08, 0x96, 0x01, 0x12, 1, b'a']).flatten().count(), 2);
    }

    #[test]
    fn fields_come_back_as_they_were_put() {
        let mut message = Vec::new();
        put(&mut message, 8, b"name");
        put_number(&mut message, 2, 300);
        put(&mut message, 20, &[0; 200]);
        let fields: Vec<Field<'_>> = Fields(&message).map(Option::unwrap).collect();
        assert_eq!(fields.iter().map(|field| field.number).collect::<Vec<_>>(), [8, 2, 20]);
        assert_eq!(fields.iter().map(|field| field.payload.len()).collect::<Vec<_>>(), [4, 0, 200]);
        assert_eq!(fields.iter().flat_map(|field| field.whole).copied().collect::<Vec<_>>(), message);
        assert_eq!(text(&message, 8), Some("name"));
    }
}
