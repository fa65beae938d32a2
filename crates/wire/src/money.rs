//! Amounts of US dollars as JSON numbers, exact in both directions.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use tollgate_domain::Usd;
use tollgate_domain::money::{Excess, MoneyError};

/// An amount in USD that the server states: `25.5`, `0.00000579`. Read back, digits beyond the ninth decimal are dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount(pub Usd);

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = RawValue::from_string(self.0.to_string()).map_err(serde::ser::Error::custom)?;
        number.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = Box::<RawValue>::deserialize(deserializer)?;
        Usd::parse_signed(number.get(), Excess::RoundDown).map(Self).map_err(D::Error::custom)
    }
}

/// A number in a request, as it was written, so that nothing is lost before it is checked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawAmount(Box<RawValue>);

impl RawAmount {
    /// The amount, with digits beyond the ninth decimal treated as `excess` says.
    ///
    /// # Errors
    /// [`MoneyError`]; a value that is no number is [`MoneyError::NotANumber`].
    pub fn parse(&self, excess: Excess) -> Result<Usd, MoneyError> {
        Usd::parse(self.0.get(), excess)
    }

    /// The same, of an amount that may be negative.
    ///
    /// # Errors
    /// As [`RawAmount::parse`].
    pub fn parse_signed(&self, excess: Excess) -> Result<Usd, MoneyError> {
        Usd::parse_signed(self.0.get(), excess)
    }
}

impl From<Box<RawValue>> for RawAmount {
    fn from(number: Box<RawValue>) -> Self {
        Self(number)
    }
}

impl From<Usd> for RawAmount {
    fn from(amount: Usd) -> Self {
        let number = RawValue::from_string(amount.to_string());
        // The text of an amount is a JSON number.
        Self(number.unwrap_or_else(|_| RawValue::NULL.to_owned()))
    }
}

/// Amounts in the OpenAPI document: numbers, whatever holds them here.
#[cfg(feature = "openapi")]
mod schemas {
    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
    use utoipa::{PartialSchema, ToSchema};

    use super::{Amount, RawAmount};

    fn number(minimum: Option<f64>) -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number).minimum(minimum);
        number.description(Some("US dollars.")).into()
    }

    impl PartialSchema for Amount {
        fn schema() -> RefOr<Schema> {
            number(None)
        }
    }

    impl ToSchema for Amount {}

    impl PartialSchema for RawAmount {
        fn schema() -> RefOr<Schema> {
            number(Some(0.0))
        }
    }

    impl ToSchema for RawAmount {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_plain_numbers_both_ways() {
        for text in ["0", "100", "25.5", "0.00000579", "-3.000000001", "224.808602387"] {
            let amount: Amount = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&amount).unwrap(), text);
        }
        let negative: RawAmount = serde_json::from_str("-0.5").unwrap();
        assert_eq!(negative.parse(Excess::RoundDown), Err(MoneyError::Negative));
        let fine: RawAmount = serde_json::from_str("1.0000000019").unwrap();
        assert_eq!(fine.parse(Excess::RoundDown), Ok(Usd::from_nanos(1_000_000_001)));
        let raw: RawAmount = serde_json::from_str("1e-7").unwrap();
        assert_eq!(raw.parse(Excess::Refuse), Ok(Usd::from_nanos(100)));
        let text: RawAmount = serde_json::from_str("\"5\"").unwrap();
        assert_eq!(text.parse(Excess::Refuse), Err(MoneyError::NotANumber));
        assert!(serde_json::from_str::<Amount>("\"5\"").is_err());
    }

    #[test]
    fn an_amount_a_float_cannot_hold_survives() {
        // Doubles of this size are about a hundred nano-dollars apart.
        let text = "900719925.474099301";
        let amount: Amount = serde_json::from_str(text).unwrap();
        assert_eq!(amount, Amount(Usd::from_nanos(900_719_925_474_099_301)));
        assert_eq!(serde_json::to_string(&amount).unwrap(), text);
    }
}
