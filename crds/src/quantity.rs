//! Kubernetes quantities as bytes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// A quantity that isn't a whole number of bytes.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a number of bytes; write it like 64Mi, 1Gi or 500M")]
pub struct NotBytes(String);

/// The bytes that a quantity stands for.
pub fn bytes(quantity: &Quantity) -> Result<u64, NotBytes> {
    let text = quantity.0.trim();
    let refused = || NotBytes(text.to_owned());
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(refused()),
    };
    let number: u64 = number.parse().map_err(|_| refused())?;
    number.checked_mul(factor).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<u64, NotBytes> {
        bytes(&Quantity(text.to_owned()))
    }

    #[test]
    fn reads_decimal_and_binary_units() {
        assert_eq!(parse("64Mi"), Ok(64 << 20));
        assert_eq!(parse("500M"), Ok(500_000_000));
        assert_eq!(parse("12"), Ok(12));
    }

    #[test]
    fn refuses_what_is_not_bytes() {
        for text in ["", "Mi", "-1Mi", "1.5Gi", "64MiB", "99999999999Ti"] {
            assert_eq!(parse(text), Err(NotBytes(text.to_owned())));
        }
    }
}
