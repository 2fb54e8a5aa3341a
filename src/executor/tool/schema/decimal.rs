//! Decimal numbers, compared and divided without rounding.
//!
//! A JSON number here is a 64-bit integer or a double, which has at most 17 significant digits: the shortest text that
//! gives it back, which is also how it was written. So every number is `digits * 10^exponent` with 64-bit digits.

use std::cmp::Ordering;

use serde_json::Number;

/// A number as it is written. Equal where the numbers are: 1, 1.0 and 10e-1 are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Decimal {
    is_negative: bool,
    /// Ends with no 0; 0 only where the number is.
    digits: u64,
    exponent: i32,
}

impl Decimal {
    /// The number. `None` if it can't be represented.
    pub(super) fn of(number: &Number) -> Option<Self> {
        let text = number.to_string();
        let (is_negative, text) = text.strip_prefix('-').map_or((false, text.as_str()), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        // What a double of 1e15 is written with: more digits than mean something, but all of them 0.
        let fraction = fraction.trim_end_matches('0');
        let digits: u64 = format!("{whole}{fraction}").parse().ok()?;
        let exponent = exponent.parse::<i32>().ok()? - i32::try_from(fraction.len()).ok()?;
        Some(Self::normal(is_negative, digits, exponent))
    }

    fn normal(is_negative: bool, mut digits: u64, mut exponent: i32) -> Self {
        if digits == 0 {
            return Self { is_negative: false, digits: 0, exponent: 0 };
        }
        while digits.is_multiple_of(10) {
            digits /= 10;
            exponent += 1;
        }
        Self { is_negative, digits, exponent }
    }

    /// Is it above 0?
    pub(super) fn is_positive(self) -> bool {
        !self.is_negative && self.digits > 0
    }

    /// Has it no fraction?
    pub(super) fn is_integer(self) -> bool {
        self.exponent >= 0
    }

    /// The whole number, where it is one of 64 bits and not below 0.
    pub(super) fn as_u64(self) -> Option<u64> {
        let power = 10u64.checked_pow(u32::try_from(self.exponent).ok()?)?;
        if self.is_negative { None } else { self.digits.checked_mul(power) }
    }

    /// Is it a whole number of times `divisor`, which is not 0?
    pub(super) fn is_multiple_of(self, divisor: Self) -> bool {
        let by = i64::from(self.exponent) - i64::from(divisor.exponent);
        match u32::try_from(by) {
            // digits * 10^by against the divisor's digits, modulo these.
            Ok(power) => {
                let modulus = u128::from(divisor.digits);
                let scaled = u128::from(self.digits) % modulus * power_of_ten(power, modulus);
                scaled.is_multiple_of(modulus)
            }
            // digits against the divisor's digits * 10^-by; where that is too great for the type, only 0 is a multiple.
            Err(_) => {
                let power = u32::try_from(-by).ok().and_then(|power| 10u128.checked_pow(power));
                let scaled = power.and_then(|power| power.checked_mul(u128::from(divisor.digits)));
                scaled.map_or(self.digits == 0, |scaled| u128::from(self.digits).is_multiple_of(scaled))
            }
        }
    }

    /// Compares without signs.
    fn cmp_size(self, other: Self) -> Ordering {
        let length =
            |number: Self| number.digits.checked_ilog10().map(|log| i64::from(log) + i64::from(number.exponent));
        length(self).cmp(&length(other)).then_with(|| {
            // Of the same length, so the exponents differ by no more than 20 digits do.
            let least = self.exponent.min(other.exponent);
            let aligned = |number: Self| {
                u128::from(number.digits) * 10u128.pow(u32::try_from(number.exponent - least).unwrap_or_default())
            };
            aligned(self).cmp(&aligned(other))
        })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.is_negative, other.is_negative) {
            (false, false) => self.cmp_size(*other),
            (true, true) => other.cmp_size(*self),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// `10^power` modulo `modulus`, which has at most 64 bits.
fn power_of_ten(mut power: u32, modulus: u128) -> u128 {
    let (mut base, mut product) = (10 % modulus, 1 % modulus);
    while power > 0 {
        if power % 2 == 1 {
            product = product * base % modulus;
        }
        base = base * base % modulus;
        power /= 2;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::of(&serde_json::from_str(text).expect("a number")).expect("a decimal")
    }

    #[test]
    fn numbers_are_in_order_whatever_their_type() {
        let ascending = [
            "-1e300",
            "-9223372036854775808",
            "-9223372036854775807",
            "-1.5",
            "-1e-300",
            "0",
            "5e-324",
            "0.1",
            "0.30000000000000004",
            "1",
            "1.0000000000000002",
            "9007199254740992",
            "9007199254740993",
            "9007199254740994",
            "18446744073709551614",
            "18446744073709551615",
            "1.8446744073709552e19",
            "1.7976931348623157e308",
        ];
        let numbers: Vec<_> = ascending.iter().map(|text| decimal(text)).collect();
        for (i, a) in numbers.iter().enumerate() {
            for (j, b) in numbers.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{} and {}", ascending[i], ascending[j]);
            }
        }
    }

    #[test]
    fn numbers_are_equal_however_they_are_written() {
        for (a, b) in [
            ("1", "1.0"),
            ("100", "1e2"),
            ("0", "-0.0"),
            ("0.1", "1e-1"),
            ("1e15", "1000000000000000"),
            ("1e22", "1e22"),
        ] {
            assert_eq!(decimal(a), decimal(b));
        }
        assert_ne!(decimal("9007199254740993"), decimal("9007199254740992.0"));
    }

    #[test]
    fn whole_numbers_are_told_from_others() {
        for (text, is_integer, as_u64) in [
            ("0", true, Some(0)),
            ("2.0", true, Some(2)),
            ("1e3", true, Some(1000)),
            ("1e300", true, None),
            ("-1", true, None),
            ("0.5", false, None),
            ("18446744073709551615", true, Some(u64::MAX)),
        ] {
            assert_eq!((decimal(text).is_integer(), decimal(text).as_u64()), (is_integer, as_u64), "{text}");
        }
    }

    #[test]
    fn a_multiple_is_one_to_the_last_digit() {
        for (number, divisor, expected) in [
            ("111848.18", "0.01", true),
            ("1234567.89", "0.01", true),
            ("19999999.99", "0.01", true),
            ("19999999.991", "0.01", false),
            ("0.3", "0.1", true),
            ("0.25", "0.1", false),
            ("-4.5", "1.5", true),
            ("0", "0.7", true),
            ("7", "0.1", true),
            ("1e300", "0.01", true),
            ("1e300", "3", false),
            ("1e-300", "3", false),
            ("0.01", "1e300", false),
            ("9007199254740993", "3", true),
            ("9007199254740993", "2", false),
            ("18446744073709551615", "5", true),
            ("18446744073709551615", "18446744073709551615", true),
            ("1.7976931348623157e308", "5e-324", true),
            ("5e-324", "1.7976931348623157e308", false),
        ] {
            assert_eq!(decimal(number).is_multiple_of(decimal(divisor)), expected, "{number} of {divisor}");
        }
    }
}
