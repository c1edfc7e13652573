//! Protobuf at the level of the wire format, for changing files of which the reader's schema covers only a
//! part.

/// Fields in their order.
pub(crate) struct Message(pub(crate) Vec<Field>);

pub(crate) struct Field {
    pub(crate) tag: u64,
    kind: u64,
    /// The bytes after the key, without their length.
    pub(crate) bytes: Vec<u8>,
}

/// The lengths of the fields with a fixed length; 2 is for fields that state their length, 0 for numbers.
const FIXED: [(u64, usize); 2] = [(1, 8), (5, 4)];

impl Message {
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = number(&mut bytes);
            let kind = key & 7;
            let content = match FIXED.iter().find(|(fixed, _)| *fixed == kind) {
                Some(&(_, len)) => take(&mut bytes, len),
                None if kind == 2 => {
                    let len = number(&mut bytes) as usize;
                    take(&mut bytes, len)
                }
                None => varint(number(&mut bytes)),
            };
            fields.push(Field { tag: key >> 3, kind, bytes: content });
        }
        Self(fields)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for field in &self.0 {
            bytes.extend(varint(field.tag << 3 | field.kind));
            if field.kind == 2 {
                bytes.extend(varint(field.bytes.len() as u64));
            }
            bytes.extend(&field.bytes);
        }
        bytes
    }

    /// The text in the field `tag`; empty if there is none.
    pub(crate) fn text(&self, tag: u64) -> String {
        let field = self.0.iter().find(|field| field.tag == tag);
        field.map(|field| String::from_utf8(field.bytes.clone()).unwrap()).unwrap_or_default()
    }
}

impl Field {
    pub(crate) fn new(tag: u64, bytes: Vec<u8>) -> Self {
        Self { tag, kind: 2, bytes }
    }

    pub(crate) fn text(tag: u64, text: &str) -> Self {
        Self::new(tag, text.as_bytes().to_vec())
    }

    pub(crate) fn message(tag: u64, message: &Message) -> Self {
        Self::new(tag, message.bytes())
    }

    pub(crate) fn number(tag: u64, value: u64) -> Self {
        Self { tag, kind: 0, bytes: varint(value) }
    }
}

fn take(bytes: &mut &[u8], len: usize) -> Vec<u8> {
    let (taken, rest) = bytes.split_at(len);
    *bytes = rest;
    taken.to_vec()
}

fn number(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
