//! `${VARIABLES}` in Compose files, as [its specification](https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md)
//! has them.

use std::collections::HashMap;

/// How deep defaults may lie in each other.
const DEPTH_MAX: usize = 16;

/// What variables mean: those of this process, and behind them those of the file `.env` beside the Compose file.
#[derive(Debug, Default)]
pub(super) struct Variables(HashMap<String, String>);

impl Variables {
    /// Those of `process`, and of `file`, the text of `.env`.
    pub(super) fn new(file: &str, process: impl Iterator<Item = (String, String)>) -> Self {
        let mut variables: HashMap<_, _> = file.lines().filter_map(line).collect();
        variables.extend(process);
        Self(variables)
    }

    /// `text` with its variables replaced.
    ///
    /// # Errors
    /// A sentence, when one is not set and has no default, or the text is not written as it should be.
    pub(super) fn fill_in(&self, text: &str) -> Result<String, String> {
        self.fill(text, 0)
    }

    fn fill(&self, text: &str, depth: usize) -> Result<String, String> {
        if depth > DEPTH_MAX {
            return Err("too many defaults within each other".to_owned());
        }
        let (mut filled, mut rest) = (String::with_capacity(text.len()), text);
        while let Some((before, after)) = rest.split_once('$') {
            filled.push_str(before);
            rest = if let Some(after) = after.strip_prefix('$') {
                filled.push('$');
                after
            } else if let Some(braced) = after.strip_prefix('{') {
                let end = closing(braced).ok_or_else(|| format!("\"{text}\" has no closing }}"))?;
                filled.push_str(&self.braced(&braced[..end], depth)?);
                &braced[end + 1..]
            } else {
                let end = name_length(after);
                if end == 0 {
                    return Err(format!("\"{text}\": write $$ for a $ that begins no variable"));
                }
                filled.push_str(self.set(&after[..end])?);
                &after[end..]
            };
        }
        filled.push_str(rest);
        Ok(filled)
    }

    /// What stands between braces: a name, and behind it what holds when it is not set (`:`: or empty).
    fn braced(&self, text: &str, depth: usize) -> Result<String, String> {
        let (name, rest) = text.split_at(name_length(text));
        let (or_empty, operator) = match rest.strip_prefix(':') {
            Some(operator) => (true, operator),
            None => (false, rest),
        };
        let value = self.0.get(name).filter(|value| !or_empty || !value.is_empty());
        let operand = operator.get(1..).unwrap_or_default();
        match (operator.chars().next(), value) {
            _ if name.is_empty() => Err(format!("\"${{{text}}}\" names no variable")),
            (None, _) if !or_empty => self.set(name).map(str::to_owned),
            (Some('-' | '?'), Some(value)) => Ok(value.clone()),
            (Some('-'), None) | (Some('+'), Some(_)) => self.fill(operand, depth + 1),
            (Some('+'), None) => Ok(String::new()),
            (Some('?'), None) => Err(format!("{name} is not set: {operand}")),
            _ => Err(format!("\"${{{text}}}\" is no way to write a variable")),
        }
    }

    fn set(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| {
            format!("{name} is not set: set it in the environment or in .env, or write ${{{name}:-default}}")
        })
    }
}

fn name_length(text: &str) -> usize {
    let fits = |(place, b): (usize, u8)| {
        b == b'_' || b.is_ascii_alphabetic() || (place > 0 && b.is_ascii_digit())
    };
    text.bytes().enumerate().take_while(|at| fits(*at)).count()
}

/// Where the brace closes that is open.
fn closing(text: &str) -> Option<usize> {
    let (mut open, mut before) = (1_usize, b' ');
    for (place, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if before == b'$' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(place);
        }
        before = byte;
    }
    None
}

/// `NAME=value` of `.env`, with `export` before it or quotes around the value; `None` for comments, and what is no such line.
fn line(line: &str) -> Option<(String, String)> {
    let line = line.trim_start();
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    let name = name.trim();
    if name.is_empty() || name_length(name) != name.len() {
        return None;
    }
    let value = value.trim();
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let (value, _) = value.strip_prefix(quote)?.split_once(quote)?;
        Some(value)
    });
    let bare = || value.split(" #").next().unwrap_or_default().trim_end();
    Some((name.to_owned(), quoted.unwrap_or_else(bare).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let file = "# the site's\nexport TAG=1.27 # now\nNAME='ng inx'\nEMPTY=\nBOTH=file\n 1=x\nnothing\n";
        Variables::new(file, [("BOTH".to_owned(), "process".to_owned())].into_iter())
    }

    #[test]
    fn variables_are_filled_in_as_compose_does() {
        let variables = variables();
        for (text, want) in [
            ("nginx:$TAG", "nginx:1.27"),
            ("nginx:${TAG}-alpine", "nginx:1.27-alpine"),
            ("$BOTH", "process"),
            ("${NAME}", "ng inx"),
            ("a${NONE:-b}c${NONE-}d", "abcd"),
            ("${EMPTY:-full}${EMPTY-full}", "full"),
            ("${NONE:-${OTHER:-x}-${TAG}}", "x-1.27"),
            ("${TAG:+yes}${NONE:+no}${EMPTY+set}", "yesset"),
            ("${TAG:?must}", "1.27"),
            ("$$TAG $$$TAG", "$TAG $1.27"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(variables.fill_in(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_filled_in_is_said() {
        let deep = "${N:-".repeat(30) + &"}".repeat(30);
        for (text, says) in [
            ("nginx:$NONE", "NONE is not set"),
            ("${NONE}", "NONE is not set"),
            ("${NONE:?say which}", "say which"),
            ("${TAG", "closing"),
            ("${}", "no variable"),
            ("${TAG!x}", "no way"),
            ("a$", "write $$"),
            ("$ ", "write $$"),
            (&deep, "too many"),
        ] {
            let refused = variables().fill_in(text).expect_err(text);
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }
}
