//! What fuzz targets call, which is nobody else's to see.

use hyper::StatusCode;
use url::form_urlencoded::Serializer;

use super::{
    question::{self, Kind, Order, Question},
    refusal::Refusal,
};

/// A question as [`crate::admin::Client`] writes it; or the status of the refusal.
pub fn question(path: &str, query: Option<&str>) -> Result<(String, String), StatusCode> {
    let question = Question::of(path, query).map_err(status)?;
    let mut query = Serializer::new(String::new());
    let word = match question {
        Question::Images => "images",
        Question::Clients => "clients",
        Question::Mismatches => "mismatches",
        Question::Status => "status",
        Question::Inspect(image) => {
            query.append_pair("image", &image.to_string());
            "inspect"
        }
        Question::Explain { image, client, user_agent } => {
            query.append_pair("image", &image.to_string());
            query.extend_pairs(client.map(|client| ("client", client.to_string())));
            query.append_pair("user_agent", &user_agent);
            "explain"
        }
        Question::Matching { repository, tags, newest } => {
            assert!((1..=1000).contains(&newest));
            query.append_pair("image", &format!("{repository}:{tags}"));
            query.append_pair("newest", &newest.to_string());
            "matching"
        }
        Question::Blobs(after) => {
            query.extend_pairs(after.map(|after| ("after", after.to_string())));
            "blobs"
        }
        Question::Blob { digest, from } => {
            query.append_pair("digest", &digest.to_string());
            query.append_pair("from", &from.to_string());
            "blob"
        }
    };
    Ok((format!("/api/v1/{word}"), query.finish()))
}

/// The query of an import, as the client writes it; or the status of the refusal.
pub fn import(query: &str) -> Result<String, StatusCode> {
    let terms = question::import_terms(Some(query)).map_err(status)?;
    assert!(terms.trusted.len() <= 64);
    let mut query = Serializer::new(String::new());
    query.extend_pairs(terms.name.iter().map(|name| ("name", name.to_string())));
    query.extend_pairs(terms.unpinned.then_some(("unpinned", "")));
    query.extend_pairs(terms.trusted.iter().map(|key| ("key", key.to_string())));
    Ok(query.finish())
}

/// The body of an order, as the client writes it; or the status of the refusal. `None`: nothing is ordered at that path.
pub fn order(path: &str, body: &[u8]) -> Option<Result<Vec<u8>, StatusCode>> {
    let order = Order::read(Kind::of(path)?, body);
    Some(order.map_err(status).map(|order| {
        let body = match order {
            Order::Pull { image, platforms } => {
                assert!(platforms.len() <= 64);
                serde_json::json!({ "image": image, "platforms": platforms })
            }
            Order::Pin { image, .. } | Order::Remove(image) => {
                serde_json::json!({ "image": image })
            }
            Order::Collect => serde_json::json!({}),
            Order::Verify(how) => {
                assert_ne!(how.rate, Some(0), "it would end never");
                serde_json::json!({ "repair": how.repair, "rate": how.rate })
            }
            Order::Export { images, platforms } => {
                assert!(!images.is_empty() && platforms.len() <= 64);
                serde_json::json!({ "images": images, "platforms": platforms })
            }
            Order::Drop(set) => serde_json::json!({ "set": set }),
        };
        serde_json::to_vec(&body).expect("strings and numbers serialise")
    }))
}

fn status(refusal: Refusal) -> StatusCode {
    refusal.status
}
