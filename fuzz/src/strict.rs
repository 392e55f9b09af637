//! JSON as RFC 8259 and our promises have it, read in the plainest way: the judge of the program's own readers, with
//! which it shares no line. It is slow and keeps numbers as they are written.

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// As it stands there.
    Number(String),
    /// Its characters.
    Text(String),
    /// An array.
    List(Vec<Json>),
    /// An object; no name comes twice.
    Members(Vec<(String, Json)>),
}

/// Objects and arrays nest so deeply at most, the outermost one included.
pub const DEPTH_MAX: usize = 32;

/// The value that takes up all of these bytes, but for white space around it. `None` unless it is strict JSON.
pub fn read(bytes: &[u8]) -> Option<Json> {
    let chars: Vec<char> = std::str::from_utf8(bytes).ok()?.chars().collect();
    let mut reader = Reader { chars, at: 0 };
    let value = reader.value(0)?;
    reader.space();
    (reader.at == reader.chars.len()).then_some(value)
}

impl Json {
    /// A member of an object.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.members()?.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The members, if it is an object.
    pub fn members(&self) -> Option<&[(String, Self)]> {
        if let Self::Members(members) = self { Some(members) } else { None }
    }

    /// The elements, if it is an array.
    pub fn list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    /// The characters, if it is a string.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The nearest floating-point number, if it is a number.
    pub fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { number.parse().ok() } else { None }
    }

    /// Whether it holds a number so near the end of what a `f64` can be that readers may differ about it.
    pub fn is_borderline(&self) -> bool {
        match self {
            Self::Number(_) => self.number().is_none_or(|number| number.is_infinite() || number.abs() > 1e308),
            Self::List(list) => list.iter().any(Self::is_borderline),
            Self::Members(members) => members.iter().any(|(_, value)| value.is_borderline()),
            _ => false,
        }
    }

    /// Whether it is the same as this value of `serde_json`, numbers compared by what they are nearest to.
    pub fn is(&self, other: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bool(own), Value::Bool(other)) => own == other,
            (Self::Text(own), Value::String(other)) => own == other,
            (Self::Number(_), Value::Number(other)) => {
                let (Some(own), Some(other)) = (self.number(), other.as_f64()) else { return false };
                // Readers may be wrong by the last digit.
                own == other || (own - other).abs() <= own.abs() * 1e-15 || own.abs() > 1e308
            }
            (Self::List(own), Value::Array(other)) => {
                own.len() == other.len() && own.iter().zip(other).all(|(own, other)| own.is(other))
            }
            (Self::Members(own), Value::Object(other)) => {
                own.len() == other.len()
                    && own.iter().all(|(name, value)| other.get(name).is_some_and(|other| value.is(other)))
            }
            _ => false,
        }
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn word(&mut self, word: &str) -> Option<()> {
        word.chars().all(|c| self.take(c)).then_some(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    /// A value inside of so many others.
    fn value(&mut self, around: usize) -> Option<Json> {
        self.space();
        match self.peek()? {
            'n' => self.word("null").map(|()| Json::Null),
            't' => self.word("true").map(|()| Json::Bool(true)),
            'f' => self.word("false").map(|()| Json::Bool(false)),
            '"' => self.text().map(Json::Text),
            '[' if around < DEPTH_MAX => self.list(around + 1),
            '{' if around < DEPTH_MAX => self.members(around + 1),
            _ => self.number(),
        }
    }

    fn list(&mut self, around: usize) -> Option<Json> {
        self.at += 1;
        let mut list = Vec::new();
        self.space();
        if self.take(']') {
            return Some(Json::List(list));
        }
        loop {
            list.push(self.value(around)?);
            self.space();
            match self.next()? {
                ',' => {}
                ']' => return Some(Json::List(list)),
                _ => return None,
            }
        }
    }

    fn members(&mut self, around: usize) -> Option<Json> {
        self.at += 1;
        let mut members: Vec<(String, Json)> = Vec::new();
        let mut names = std::collections::HashSet::new();
        self.space();
        if self.take('}') {
            return Some(Json::Members(members));
        }
        loop {
            self.space();
            let name = self.text()?;
            if !names.insert(name.clone()) {
                return None;
            }
            self.space();
            if !self.take(':') {
                return None;
            }
            members.push((name, self.value(around)?));
            self.space();
            match self.next()? {
                ',' => {}
                '}' => return Some(Json::Members(members)),
                _ => return None,
            }
        }
    }

    fn text(&mut self) -> Option<String> {
        if !self.take('"') {
            return None;
        }
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Some(text),
                '\\' => text.push(self.escaped()?),
                c if c < ' ' => return None,
                c => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Option<char> {
        Some(match self.next()? {
            c @ ('"' | '\\' | '/') => c,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let first = self.unit()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return char::from_u32(first);
                }
                self.word("\\u")?;
                let second = self.unit()?;
                if !(0xdc00..0xe000).contains(&second) {
                    return None;
                }
                char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?
            }
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        (0..4).try_fold(0, |unit, _| Some(unit * 16 + self.next()?.to_digit(16)?))
    }

    fn digits(&mut self) -> Option<()> {
        let from = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > from).then_some(())
    }

    fn number(&mut self) -> Option<Json> {
        let from = self.at;
        self.take('-');
        if !self.take('0') {
            self.digits()?;
        }
        if self.take('.') {
            self.digits()?;
        }
        if self.take('e') || self.take('E') {
            let _ = self.take('+') || self.take('-');
            self.digits()?;
        }
        Some(Json::Number(self.chars[from..self.at].iter().collect()))
    }
}
