//! Which of the models that can be called are shown, and in which order.
//!
//! A model is judged by what is shown of it: its first offer. Only `providers` asks all of them, since any may answer.

use std::cmp::Reverse;

use tollgate_domain::Price;

use crate::catalogue::{Model, Offer};

/// Tokens that prices are asked for by.
const MTOK: u64 = 1_000_000;

/// What is asked of a model. The default asks nothing.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Each is part of the id or of the name.
    pub words: Vec<String>,
    /// All are understood.
    pub parameters: Vec<String>,
    /// All can go in.
    pub input_modalities: Vec<String>,
    /// One of them comes out.
    pub output_modalities: Vec<String>,
    /// The fewest tokens of prompt and completion together.
    pub context_length_min: u64,
    /// What a million prompt tokens cost.
    pub prompt_mtok: PriceRange,
    /// What a million completion tokens cost.
    pub completion_mtok: PriceRange,
    /// One of them made it.
    pub authors: Vec<String>,
    /// One of them can be called for it.
    pub providers: Vec<String>,
    /// The order.
    pub order: Order,
}

/// Prices of a million tokens, both ends included.
#[derive(Clone, Copy, Debug, Default)]
pub struct PriceRange {
    /// The lowest.
    pub min: Option<Price>,
    /// The highest.
    pub max: Option<Price>,
}

/// In which order models are shown; equals stay in the order of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As configured.
    #[default]
    Configured,
    /// By the mean of the prices of a prompt and a completion token, cheapest first.
    Cheapest,
    /// The same, dearest first.
    Dearest,
    /// The longest context first.
    LongestContext,
}

impl Selection {
    /// The models that have what is asked, each with its first offer. Models without an offer are never among them.
    pub fn of<'a>(&self, models: &'a [Model]) -> Vec<(&'a Model, Offer<'a>)> {
        let shown = models.iter().filter_map(|model| model.offers().next().map(|offer| (model, offer)));
        let mut chosen: Vec<(&Model, Offer)> = shown.filter(|(model, offer)| self.takes(model, *offer)).collect();
        match self.order {
            Order::Configured => {}
            Order::Cheapest => chosen.sort_by_key(|(_, offer)| price_sum(*offer)),
            Order::Dearest => chosen.sort_by_key(|(_, offer)| Reverse(price_sum(*offer))),
            Order::LongestContext => chosen.sort_by_key(|(_, offer)| Reverse(offer.endpoint.context_length)),
        }
        chosen
    }

    fn takes(&self, model: &Model, offer: Offer) -> bool {
        let (id, name) = (model.id.to_lowercase(), offer.endpoint.name.to_lowercase());
        let names_it = |word: &String| {
            let word = word.to_lowercase();
            id.contains(&word) || name.contains(&word)
        };
        let (inputs, outputs) = (offer.input_modalities(), Offer::OUTPUT_MODALITIES);
        let made_by = |asked: &String| model.author().is_some_and(|author| author.eq_ignore_ascii_case(asked));
        let served_by =
            |asked: &String| model.offers().any(|offer| offer.endpoint.provider.eq_ignore_ascii_case(asked));
        self.words.iter().all(names_it)
            && self.parameters.iter().all(|asked| has(Offer::PARAMETERS, asked))
            && self.input_modalities.iter().all(|asked| has(inputs, asked))
            && one_of(&self.output_modalities, |asked| has(outputs, asked))
            && offer.endpoint.context_length >= self.context_length_min
            && self.prompt_mtok.holds(offer.prices.prompt)
            && self.completion_mtok.holds(offer.prices.completion)
            && one_of(&self.authors, made_by)
            && one_of(&self.providers, served_by)
    }
}

impl PriceRange {
    /// Whether a million tokens at `price` each cost no less than the lowest and no more than the highest.
    fn holds(self, price: Price) -> bool {
        let mtok = price.times(MTOK);
        self.min.is_none_or(|min| mtok >= i128::from(min.picos()))
            && self.max.is_none_or(|max| mtok <= i128::from(max.picos()))
    }
}

/// Sorts as the mean of the two does.
fn price_sum(offer: Offer) -> i128 {
    offer.prices.prompt.times(1).saturating_add(offer.prices.completion.times(1))
}

fn has(known: &[&str], asked: &str) -> bool {
    known.iter().any(|known| known.eq_ignore_ascii_case(asked))
}

/// Whether one of those asked for is there; where nothing is asked, anything is.
fn one_of(asked: &[String], found: impl Fn(&String) -> bool) -> bool {
    asked.is_empty() || asked.iter().any(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Catalogue;
    use tollgate_domain::model::{Endpoint, PriceVersion};
    use tollgate_domain::pricing::PriceList;
    use tollgate_store::PricedEndpoint;

    /// Prices in USD per million tokens.
    fn offer(model: &str, provider: &str, context_length: u64, prices: Option<(&str, &str)>) -> PricedEndpoint {
        let per_token = |mtok: &str| Price::parse(&format!("{mtok}e-6")).unwrap();
        let prices = prices.map(|(prompt, completion)| PriceList {
            prompt: per_token(prompt),
            completion: per_token(completion),
            ..PriceList::default()
        });
        let endpoint = Endpoint {
            model: model.to_owned(),
            name: format!("The {model}"),
            provider: provider.to_owned(),
            upstream_id: model.to_owned(),
            context_length,
            max_output_tokens: context_length,
            max_image_tokens: model.contains("vision").then_some(1_000),
            prices,
        };
        PricedEndpoint { version: PriceVersion(1), endpoint }
    }

    fn catalogue() -> Catalogue {
        Catalogue::new(vec![
            offer("acme/small", "one", 8_000, Some(("0.1", "0.4"))),
            offer("acme/vision", "one", 128_000, Some(("2.5", "10"))),
            offer("other/long", "two", 1_000_000, Some(("0.1", "0.4"))),
            offer("acme/small", "two", 8_000, Some(("9", "9"))),
            offer("acme/secret", "one", 8_000, None),
            offer("local", "three", 4_000, Some(("0", "0"))),
            offer("local", "unpriced", 4_000, None),
        ])
    }

    fn chosen(selection: &Selection) -> Vec<String> {
        selection.of(catalogue().models()).into_iter().map(|(model, _)| model.id.clone()).collect()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    fn mtok(min: Option<&str>, max: Option<&str>) -> PriceRange {
        let price = |text: &str| Price::parse(text).unwrap();
        PriceRange { min: min.map(price), max: max.map(price) }
    }

    #[test]
    fn what_nobody_can_be_called_for_is_never_shown() {
        assert_eq!(chosen(&Selection::default()), ["acme/small", "acme/vision", "other/long", "local"]);
        assert_eq!(catalogue().providers(), ["one", "two", "three"]);
    }

    #[test]
    fn every_word_is_in_the_id_or_the_name() {
        let asked = |words: &[&str]| chosen(&Selection { words: texts(words), ..Selection::default() });
        assert_eq!(asked(&["ACME"]), ["acme/small", "acme/vision"]);
        assert_eq!(asked(&["the", "long"]), ["other/long"]);
        assert_eq!(asked(&["acme", "long"]), [""; 0]);
    }

    #[test]
    fn parameters_and_inputs_are_all_wanted_and_of_outputs_one() {
        let parameters = |asked: &[&str]| chosen(&Selection { parameters: texts(asked), ..Selection::default() }).len();
        assert_eq!([parameters(&["tools"]), parameters(&["tools", "top_k"])], [4, 0]);
        let inputs = |asked: &[&str]| chosen(&Selection { input_modalities: texts(asked), ..Selection::default() });
        assert_eq!(inputs(&["text", "Image"]), ["acme/vision"]);
        assert_eq!(inputs(&["image", "audio"]), [""; 0]);
        let outputs = |asked: &[&str]| chosen(&Selection { output_modalities: texts(asked), ..Selection::default() });
        assert_eq!([outputs(&["image", "text"]).len(), outputs(&["image"]).len()], [4, 0]);
    }

    #[test]
    fn bounds_hold_what_lies_on_them() {
        let context = |least| chosen(&Selection { context_length_min: least, ..Selection::default() });
        assert_eq!(context(128_000), ["acme/vision", "other/long"]);
        assert_eq!(context(128_001), ["other/long"]);
        let prompt = |min, max| chosen(&Selection { prompt_mtok: mtok(min, max), ..Selection::default() });
        assert_eq!(prompt(None, Some("0.1")), ["acme/small", "other/long", "local"]);
        assert_eq!(prompt(None, Some("0.0999999")), ["local"]);
        assert_eq!(prompt(Some("0.1"), Some("2.4")), ["acme/small", "other/long"]);
        assert_eq!(prompt(Some("0.1000001"), None), ["acme/vision"]);
        assert_eq!(prompt(Some("2"), Some("1")), [""; 0]);
        let completion = |min, max| chosen(&Selection { completion_mtok: mtok(min, max), ..Selection::default() });
        assert_eq!(completion(Some("10"), None), ["acme/vision"]);
        assert_eq!(completion(None, Some("0")), ["local"]);
    }

    #[test]
    fn authors_come_from_ids_and_providers_from_all_offers() {
        let authors = |asked: &[&str]| chosen(&Selection { authors: texts(asked), ..Selection::default() });
        assert_eq!(authors(&["Acme"]), ["acme/small", "acme/vision"]);
        assert_eq!(authors(&["local", "nobody"]), [""; 0]);
        let providers = |asked: &[&str]| chosen(&Selection { providers: texts(asked), ..Selection::default() });
        assert_eq!(providers(&["two"]), ["acme/small", "other/long"]);
        assert_eq!(providers(&["three", "One"]), ["acme/small", "acme/vision", "local"]);
        assert_eq!(providers(&["unpriced"]), [""; 0]);
    }

    #[test]
    fn equals_stay_as_configured() {
        let ordered = |order| chosen(&Selection { order, ..Selection::default() });
        assert_eq!(ordered(Order::Cheapest), ["local", "acme/small", "other/long", "acme/vision"]);
        assert_eq!(ordered(Order::Dearest), ["acme/vision", "acme/small", "other/long", "local"]);
        assert_eq!(ordered(Order::LongestContext), ["other/long", "acme/vision", "acme/small", "local"]);
    }
}
