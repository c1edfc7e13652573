//! The pickle machine: reads the opcodes of protocols 0 to 5 and builds a flat list of inert nodes.
//!
//! A pickle is a program for a stack machine, and `REDUCE` is its call instruction. Here it creates a node
//! that *describes* a call; [`crate::inert`] decides what described calls mean. Nothing is looked up,
//! imported or run. Nodes refer to each other by number, so sharing costs nothing, cycles are harmless, and
//! nothing in this file recurses.

use std::collections::HashMap;

use bytes::Bytes;

use crate::error::{Error, ErrorKind};
use crate::limits::{MAX_GLOBAL_BYTES, MAX_MEMO, MAX_NODES, MAX_STACK};

/// Identifies a node of one [`Graph`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NodeId(u32);

/// A value as the pickle describes it.
#[derive(Debug)]
pub(crate) enum Node {
    None,
    Bool(bool),
    Int(i64),
    /// Little-endian two's complement.
    BigInt(Bytes),
    Float(f64),
    /// UTF-8, possibly with surrogates.
    Str(Bytes),
    Bytes(Bytes),
    List(Vec<NodeId>),
    Tuple(Vec<NodeId>),
    Set(Vec<NodeId>),
    Dict(Vec<(NodeId, NodeId)>),
    /// `module.name`
    Global(String),
    /// An object outside the pickle: in files of `torch.save`, a storage.
    Persistent(NodeId),
    Call(Call),
}

/// A described call, and the operations applied to its result.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) callable: NodeId,
    pub(crate) args: NodeId,
    pub(crate) rest: Option<Box<CallRest>>,
}

/// The less usual parts of a [`Call`].
#[derive(Debug, Default)]
pub(crate) struct CallRest {
    pub(crate) kwargs: Option<NodeId>,
    /// Set by `result[key] = value`.
    pub(crate) items: Vec<(NodeId, NodeId)>,
    /// Added by `result.append` or `result.add`.
    pub(crate) elements: Vec<NodeId>,
    /// Given to `result.__setstate__`.
    pub(crate) state: Option<NodeId>,
}

/// All nodes of a pickle, and the number of its result.
#[derive(Debug)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    root: NodeId,
}

impl Graph {
    pub(crate) fn root(&self) -> NodeId {
        self.root
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }
}

/// Runs the pickle up to its `STOP`.
pub(crate) fn parse(data: &Bytes) -> Result<Graph, Error> {
    let mut machine = Machine {
        data,
        at: 0,
        opcode_at: 0,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        if let Some(root) = machine.step()? {
            return Ok(Graph { nodes: machine.nodes, root });
        }
    }
}

struct Machine<'a> {
    data: &'a Bytes,
    at: usize,
    /// Position of the current opcode, for messages.
    opcode_at: usize,
    nodes: Vec<Node>,
    stack: Vec<NodeId>,
    /// Heights of the stack at each open `MARK`.
    marks: Vec<usize>,
    memo: HashMap<u32, NodeId>,
}

impl Machine<'_> {
    /// Executes one opcode; `STOP` returns the result.
    fn step(&mut self) -> Result<Option<NodeId>, Error> {
        self.opcode_at = self.at;
        let [opcode] = self.array()?;
        match opcode {
            // Framing.
            0x80 => match self.array()? {
                [0..=5] => {}
                [protocol] => return Err(self.fail(format!("unknown protocol {protocol}"))),
            },
            0x95 => {
                self.array::<8>()?;
            }
            b'.' => return self.pop().map(Some),

            // Constants.
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'K' => {
                let [value] = self.array()?;
                self.push(Node::Int(i64::from(value)))?;
            }
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(i64::from(value)))?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(i64::from(value)))?;
            }
            0x8a => {
                let [len] = self.array()?;
                let node = long(self.take(usize::from(len))?);
                self.push(node)?;
            }
            0x8b => {
                let len = self.len4()?;
                let node = long(self.take(len)?);
                self.push(node)?;
            }
            b'I' | b'L' => {
                let node = self.decimal()?;
                self.push(node)?;
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(value))?;
            }
            b'F' => {
                let line = self.line()?;
                let value = std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse().ok());
                let value = value.ok_or_else(|| self.fail("a float that is not a valid number"))?;
                self.push(Node::Float(value))?;
            }

            // Text and bytes.
            0x8c | b'U' => {
                let [len] = self.array()?;
                let text = self.take(usize::from(len))?;
                self.push(Node::Str(text))?;
            }
            b'X' | b'T' => {
                let len = self.len4()?;
                let text = self.take(len)?;
                self.push(Node::Str(text))?;
            }
            0x8d => {
                let len = self.len8()?;
                let text = self.take(len)?;
                self.push(Node::Str(text))?;
            }
            b'V' => {
                let line = self.line()?;
                self.push(Node::Str(unescape(&line, Escapes::RawUnicode)))?;
            }
            b'S' => {
                let line = self.line()?;
                let quoted = match line.trim_ascii() {
                    [open @ (b'\'' | b'"'), text @ .., close] if open == close => text,
                    _ => return Err(self.fail("a string without quotes")),
                };
                let text = unescape(quoted, Escapes::Python);
                self.push(Node::Str(text))?;
            }
            b'C' => {
                let [len] = self.array()?;
                let bytes = self.take(usize::from(len))?;
                self.push(Node::Bytes(bytes))?;
            }
            b'B' => {
                let len = self.len4()?;
                let bytes = self.take(len)?;
                self.push(Node::Bytes(bytes))?;
            }
            0x8e | 0x96 => {
                let len = self.len8()?;
                let bytes = self.take(len)?;
                self.push(Node::Bytes(bytes))?;
            }

            // Containers.
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b']' => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            0x8f => self.push(Node::Set(Vec::new()))?,
            0x85..=0x87 => {
                let len = usize::from(opcode - 0x84);
                let start = self.stack.len().checked_sub(len).filter(|&start| start >= self.floor());
                let start = start.ok_or_else(|| self.fail("stack underflow"))?;
                let items = self.stack.split_off(start);
                self.push(Node::Tuple(items))?;
            }
            b't' => {
                let items = self.pop_mark()?;
                self.push(Node::Tuple(items))?;
            }
            b'l' => {
                let items = self.pop_mark()?;
                self.push(Node::List(items))?;
            }
            0x91 => {
                let items = self.pop_mark()?;
                self.push(Node::Set(items))?;
            }
            b'd' => {
                let flat = self.pop_mark()?;
                let items = self.pairs(&flat)?;
                self.push(Node::Dict(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(&[item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_mark()?;
                self.extend(&items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let flat = self.pop_mark()?;
                self.set_items(&flat)?;
            }

            // The stack and the memo.
            b'(' => {
                if self.marks.len() >= MAX_STACK {
                    return Err(Error::limit("values on the pickle's stack", MAX_STACK));
                }
                self.marks.push(self.stack.len());
            }
            b'0' => {
                // A POP directly after a MARK removes the mark.
                if self.stack.len() == self.floor() && self.marks.pop().is_some() {
                    return Ok(None);
                }
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => {
                let top = self.top()?;
                self.push_id(top)?;
            }
            b'q' => {
                let [slot] = self.array()?;
                self.put(u32::from(slot))?;
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.put(slot)?;
            }
            b'p' => {
                let slot = self.slot()?;
                self.put(slot)?;
            }
            0x94 => self.put(self.memo.len() as u32)?,
            b'h' => {
                let [slot] = self.array()?;
                self.get(u32::from(slot))?;
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.array()?);
                self.get(slot)?;
            }
            b'g' => {
                let slot = self.slot()?;
                self.get(slot)?;
            }

            // Globals, calls and persistent objects are described, never looked up.
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = self.global(&module, &name)?;
                self.push(global)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let global = match (self.node(module), self.node(name)) {
                    (Node::Str(module), Node::Str(name)) => self.global(module, name)?,
                    _ => return Err(self.fail("a global whose name is not text")),
                };
                self.push(global)?;
            }
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                self.push(Node::Call(Call { callable, args, rest: None }))?;
            }
            0x92 => {
                let (kwargs, args, callable) = (self.pop()?, self.pop()?, self.pop()?);
                let rest = CallRest { kwargs: Some(kwargs), ..CallRest::default() };
                self.push(Node::Call(Call { callable, args, rest: Some(Box::new(rest)) }))?;
            }
            b'i' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = self.global(&module, &name)?;
                let items = self.pop_mark()?;
                let callable = self.add(global)?;
                let args = self.add(Node::Tuple(items))?;
                self.push(Node::Call(Call { callable, args, rest: None }))?;
            }
            b'o' => {
                let mut items = self.pop_mark()?;
                if items.is_empty() {
                    return Err(self.fail("an instance without a class"));
                }
                let callable = items.remove(0);
                let args = self.add(Node::Tuple(items))?;
                self.push(Node::Call(Call { callable, args, rest: None }))?;
            }
            b'b' => {
                let state = self.pop()?;
                let target = self.top()?;
                if let Node::Call(call) = self.node_mut(target) {
                    call.rest.get_or_insert_default().state = Some(state);
                }
            }
            b'Q' => {
                let id = self.pop()?;
                self.push(Node::Persistent(id))?;
            }
            b'P' => {
                let line = self.line()?;
                let id = self.add(Node::Str(line))?;
                self.push(Node::Persistent(id))?;
            }
            0x82..=0x84 => return Err(self.fail("an extension code, which only its writer understands")),
            0x97 | 0x98 => return Err(self.fail("an out-of-band buffer, which is not in the file")),
            _ => return Err(self.fail(format!("unknown opcode 0x{opcode:02x}"))),
        }
        Ok(None)
    }

    fn fail(&self, problem: impl Into<String>) -> Error {
        Error::new(ErrorKind::Pickle { position: self.opcode_at, problem: problem.into() })
    }

    // Reading.

    fn take(&mut self, len: usize) -> Result<Bytes, Error> {
        if len > self.data.len() - self.at {
            return Err(self.fail("ends within a value"));
        }
        let taken = self.data.slice(self.at..self.at + len);
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        match self.data[self.at..].first_chunk::<N>() {
            Some(&array) => {
                self.at += N;
                Ok(array)
            }
            None => Err(self.fail("ends without STOP")),
        }
    }

    fn len4(&mut self) -> Result<usize, Error> {
        let len = u32::from_le_bytes(self.array()?);
        usize::try_from(len).map_err(|_| self.fail("ends within a value"))
    }

    fn len8(&mut self) -> Result<usize, Error> {
        let len = u64::from_le_bytes(self.array()?);
        usize::try_from(len).map_err(|_| self.fail("ends within a value"))
    }

    /// Up to the next line feed, without it.
    fn line(&mut self) -> Result<Bytes, Error> {
        let len = self.data[self.at..].iter().position(|&byte| byte == b'\n');
        let line = self.take(len.ok_or_else(|| self.fail("ends within a line"))?)?;
        self.at += 1;
        Ok(line)
    }

    fn slot(&mut self) -> Result<u32, Error> {
        let line = self.line()?;
        let slot = std::str::from_utf8(&line).ok().and_then(|text| text.trim().parse().ok());
        slot.ok_or_else(|| self.fail("a memo slot that is not a number"))
    }

    /// The argument of `INT` (where `00` and `01` are booleans) and of `LONG` (which may end with an L).
    fn decimal(&mut self) -> Result<Node, Error> {
        let line = self.line()?;
        match line.trim_ascii() {
            b"00" => Ok(Node::Bool(false)),
            b"01" => Ok(Node::Bool(true)),
            digits => {
                let digits = digits.strip_suffix(b"L").unwrap_or(digits);
                let value: Option<i128> = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok());
                let value = value.ok_or_else(|| {
                    self.fail("an integer that is not a valid number, or has more than 128 bits")
                })?;
                Ok(match i64::try_from(value) {
                    Ok(value) => Node::Int(value),
                    Err(_) => Node::BigInt(Bytes::copy_from_slice(&value.to_le_bytes())),
                })
            }
        }
    }

    fn global(&self, module: &[u8], name: &[u8]) -> Result<Node, Error> {
        if module.len() + name.len() > MAX_GLOBAL_BYTES {
            return Err(Error::limit("bytes in the name of a global", MAX_GLOBAL_BYTES));
        }
        Ok(Node::Global(format!("{}.{}", String::from_utf8_lossy(module), String::from_utf8_lossy(name))))
    }

    // Nodes and stack.

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    fn add(&mut self, node: Node) -> Result<NodeId, Error> {
        if self.nodes.len() >= MAX_NODES {
            return Err(Error::limit("values in the pickle", MAX_NODES));
        }
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        Ok(id)
    }

    fn push(&mut self, node: Node) -> Result<(), Error> {
        let id = self.add(node)?;
        self.push_id(id)
    }

    fn push_id(&mut self, id: NodeId) -> Result<(), Error> {
        if self.stack.len() >= MAX_STACK {
            return Err(Error::limit("values on the pickle's stack", MAX_STACK));
        }
        self.stack.push(id);
        Ok(())
    }

    /// The stack height below which values must not be popped, because of the current mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<NodeId, Error> {
        let above = &self.stack[self.floor()..];
        above.last().copied().ok_or_else(|| self.fail("stack underflow"))
    }

    fn pop(&mut self) -> Result<NodeId, Error> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_mark(&mut self) -> Result<Vec<NodeId>, Error> {
        let mark = self.marks.pop().ok_or_else(|| self.fail("no MARK on the stack"))?;
        Ok(self.stack.split_off(mark))
    }

    fn put(&mut self, slot: u32) -> Result<(), Error> {
        let top = self.top()?;
        if self.memo.len() >= MAX_MEMO {
            return Err(Error::limit("memo slots", MAX_MEMO));
        }
        self.memo.insert(slot, top);
        Ok(())
    }

    fn get(&mut self, slot: u32) -> Result<(), Error> {
        let id =
            self.memo.get(&slot).copied().ok_or_else(|| self.fail(format!("memo slot {slot} is empty")))?;
        self.push_id(id)
    }

    fn pairs(&self, flat: &[NodeId]) -> Result<Vec<(NodeId, NodeId)>, Error> {
        let (pairs, odd) = flat.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(self.fail("a key without a value"));
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    /// Appends to the list, set or object on top of the stack.
    fn extend(&mut self, new: &[NodeId]) -> Result<(), Error> {
        let target = self.top()?;
        match self.node_mut(target) {
            Node::List(items) | Node::Set(items) => items.extend_from_slice(new),
            Node::Call(call) => call.rest.get_or_insert_default().elements.extend_from_slice(new),
            _ => return Err(self.fail("appends to something that is not a list")),
        }
        Ok(())
    }

    /// Sets the items (key, value, key, value ...) of the dict or object on top of the stack.
    fn set_items(&mut self, flat: &[NodeId]) -> Result<(), Error> {
        let target = self.top()?;
        let pairs = self.pairs(flat)?;
        match self.node_mut(target) {
            Node::Dict(items) => items.extend(pairs),
            Node::Call(call) => call.rest.get_or_insert_default().items.extend(pairs),
            _ => return Err(self.fail("sets an item of something that is not a dict")),
        }
        Ok(())
    }
}

/// A little-endian two's complement integer of any length.
fn long(bytes: Bytes) -> Node {
    let Some(&last) = bytes.last() else { return Node::Int(0) };
    if bytes.len() > 8 {
        return Node::BigInt(bytes);
    }
    let mut wide = [if last & 0x80 != 0 { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(&bytes);
    Node::Int(i64::from_le_bytes(wide))
}

#[derive(Clone, Copy, PartialEq)]
enum Escapes {
    /// Only `\uXXXX` and `\UXXXXXXXX`; other bytes are Latin-1 (`UNICODE`).
    RawUnicode,
    /// As in a Python 2 string literal (`STRING`).
    Python,
}

/// Resolves the escapes of protocol 0. Invalid escapes are kept as they are.
fn unescape(text: &[u8], escapes: Escapes) -> Bytes {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'\\' {
            out.push(char::from(byte));
            continue;
        }
        let digits = match (tail.first(), escapes) {
            (Some(b'u'), _) => 4,
            (Some(b'U'), _) => 8,
            (Some(b'x'), Escapes::Python) => 2,
            (Some(&letter), Escapes::Python) => {
                let plain = match letter {
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    b'\\' | b'\'' | b'"' => char::from(letter),
                    _ => {
                        out.push('\\');
                        continue;
                    }
                };
                out.push(plain);
                rest = &tail[1..];
                continue;
            }
            _ => {
                out.push('\\');
                continue;
            }
        };
        let code = tail.get(1..=digits).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32) {
            Some(character) => {
                out.push(character);
                rest = &tail[digits + 1..];
            }
            None => out.push('\\'),
        }
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root(pickle: &[u8]) -> Result<(Graph, NodeId), Error> {
        parse(&Bytes::copy_from_slice(pickle)).map(|graph| {
            let root = graph.root();
            (graph, root)
        })
    }

    fn problem(pickle: &[u8]) -> String {
        root(pickle).expect_err("malformed").kind().to_string()
    }

    #[test]
    fn integers_of_every_spelling() {
        for (pickle, expected) in [
            (&b"K\xff."[..], 255),
            (b"M\xff\xff.", 65535),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\0.", 0),
            (b"\x8a\x01\xff.", -1),
            (b"\x8a\x02\xff\0.", 255),
            (b"\x8b\x02\0\0\0\0\x80.", -32768),
            (b"I-7\n.", -7),
            (b"L12L\n.", 12),
        ] {
            let (graph, root) = root(pickle).expect("well-formed");
            assert!(matches!(graph.node(root), Node::Int(value) if *value == expected), "{pickle:?}");
        }
        let (graph, big) = root(b"L18446744073709551616L\n.").expect("well-formed");
        assert!(matches!(graph.node(big), Node::BigInt(bytes) if bytes[8] == 1));
    }

    #[test]
    fn text_escapes_of_protocol_0() {
        assert_eq!(unescape(b"a\\u00e9\\U0001f600\xe9\\n", Escapes::RawUnicode), "aé😀é\\n".as_bytes());
        assert_eq!(unescape(b"a\\'\\x41\\n\\q\\", Escapes::Python), "a'A\n\\q\\".as_bytes());
    }

    #[test]
    fn pops_stop_at_the_mark() {
        assert!(problem(b"N(\x85.").contains("underflow"));
        assert!(problem(b"N(a.").contains("underflow"));
        assert!(root(b"N(0.").is_ok());
    }

    #[test]
    fn malformed_programs_are_errors() {
        for (pickle, expected) in [
            (&b""[..], "STOP"),
            (b"N", "STOP"),
            (b".", "underflow"),
            (b"t.", "MARK"),
            (b"h\0.", "slot 0"),
            (b"X\xff\xff\xff\xffab.", "within a value"),
            (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff.", "within a value"),
            (b"NNa.", "not a list"),
            (b"(NNNs.", "not a dict"),
            (b"}(Nu.", "without a value"),
            (b"NN\x93.", "not text"),
            (b"\x80\x06.", "protocol 6"),
            (b"\x97.", "out-of-band"),
            (b"\x82\x01.", "extension"),
            (b"\xff.", "0xff"),
            (b"cos\nsystem", "within a line"),
        ] {
            let found = problem(pickle);
            assert!(found.contains(expected), "{pickle:?}: {found}");
        }
    }
}
