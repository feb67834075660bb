//! The demo's stream: orders of a small shop, the same ones in every run.

use serde_json::json;

/// The topic they are written to.
pub(crate) const TOPIC: &str = "orders";

const CUSTOMERS: [(&str, &str); 6] = [
    ("c-1041", "DE"),
    ("c-1188", "FR"),
    ("c-1203", "NL"),
    ("c-1317", "ES"),
    ("c-1425", "PL"),
    ("c-1533", "SE"),
];
const ITEMS: [(&str, u32); 7] = [
    ("coffee-1kg", 1890),
    ("filter-papers", 390),
    ("grinder", 7900),
    ("kettle", 4550),
    ("mug", 1250),
    ("scale", 3400),
    ("tea-green", 790),
];
const STEPS: [&str; 4] = ["placed", "paid", "packed", "shipped"];

/// An order, or the next step of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// The customer: all that happens to one customer stays in order.
    pub(crate) key: String,
    /// A JSON object.
    pub(crate) value: String,
    /// Name and value of its one header.
    pub(crate) header: (&'static str, String),
}

/// The `number`th event of the stream.
pub(crate) fn order(number: u64) -> Order {
    let pick = |salt: u64, of: usize| {
        // Splitmix64: spreads consecutive numbers evenly.
        let mut mixed = number.wrapping_add(salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % of as u64) as usize
    };
    let (customer, country) = CUSTOMERS[pick(1, CUSTOMERS.len())];
    let (item, cents) = ITEMS[pick(2, ITEMS.len())];
    let quantity = pick(3, 3) as u32 + 1;
    let value = json!({
        "order": 70_000 + number,
        "status": STEPS[pick(4, STEPS.len())],
        "item": item,
        "quantity": quantity,
        "total": f64::from(cents * quantity) / 100.0,
        "country": country,
    });
    Order {
        key: customer.to_owned(),
        value: value.to_string(),
        header: ("trace", format!("{:08x}", pick(5, 1 << 32))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_json_and_the_same_each_time() {
        for number in 0..100 {
            let first = order(number);
            serde_json::from_str::<serde_json::Value>(&first.value).unwrap();
            assert_eq!(first, order(number));
        }
        assert_ne!(order(0), order(1));
    }
}
