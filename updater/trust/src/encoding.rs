//! Bytes as text: hexadecimal digits, base64 in PEM, and percent-encoding for file names in URLs.

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The bytes behind hexadecimal digits of either case; `None` when they are none.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match *pair {
            [high, low] => u8::try_from(value(high)? << 4 | value(low)?).ok(),
            _ => None,
        })
        .collect()
}

/// `text` with every byte encoded that is not a letter, a digit or one of `-._~`. The result is
/// one segment of a URL and a safe file name, because it has no slash.
#[must_use]
pub fn percent(text: &str) -> String {
    encode(text, |byte| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
    })
}

/// A target's path as part of a URL: slashes and what is encoded already stay as they are.
#[must_use]
pub fn percent_path(text: &str) -> String {
    encode(text, |byte| {
        byte.is_ascii_graphic() && !b"\"#<>?\\^`{|}".contains(&byte)
    })
}

fn encode(text: &str, plain: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    encoded
}

/// What stands in a PEM block with `label`, like `PUBLIC KEY`; `None` when there is no such block.
#[must_use]
pub fn from_pem(text: &str, label: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    from_base64(body)
}

/// A PEM block with `label` around `bytes`.
#[cfg(feature = "write")]
#[must_use]
pub fn to_pem(bytes: &[u8], label: &str) -> String {
    const LINE: usize = 64;
    let mut text = format!("-----BEGIN {label}-----\n");
    let letters: Vec<char> = to_base64(bytes).chars().collect();
    for line in letters.chunks(LINE) {
        text.extend(line);
        text.push('\n');
    }
    text + "-----END " + label + "-----\n"
}

/// RFC 4648, section 4.
#[cfg(feature = "write")]
fn to_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place) & 63) as usize;
            let letter = LETTERS.get(index).filter(|_| place <= chunk.len());
            text.push(char::from(*letter.unwrap_or(&b'=')));
        }
    }
    text
}

/// RFC 4648, section 4; white space is skipped.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0_u32);
    let mut padding = 0;
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace()) {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += 1;
                continue;
            }
            _ => return None,
        };
        if padding > 0 {
            return None;
        }
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    // What is left over is less than a byte, and zero.
    (padding <= 2 && held < 6 && bits & ((1 << held) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_digits_survive_the_round_trip() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&hex(&all)), Some(all));
        assert_eq!(from_hex("aAfF"), Some(vec![0xaa, 0xff]));
        for wrong in ["a", "abc", "0g", "+1", " 1", "é"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_file_name_cannot_leave_its_directory() {
        assert_eq!(percent("../a b?#/é"), "..%2Fa%20b%3F%23%2F%C3%A9");
        assert_eq!(percent_path("a/b c%20?"), "a/b%20c%20%3F");
    }

    #[test]
    fn base64_is_read_as_rfc_4648_has_it() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v\n", "foo")] {
            assert_eq!(from_base64(text).as_deref(), Some(bytes.as_bytes()));
        }
        for wrong in ["Z", "Zh==", "Zm=v", "Z g===", "Zm9v-"] {
            assert_eq!(from_base64(wrong), None, "{wrong}");
        }
    }
}
