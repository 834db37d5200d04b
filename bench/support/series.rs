//! Many measurements of one thing.

use serde::Serialize;

/// Measurements in the order in which they were made.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<f64>,
}

impl Series {
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, values: Vec<f64>) -> Self {
        Self { name: name.into(), unit, values }
    }

    /// The value that a share `q` of all values do not exceed; halfway between two where it falls there.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
        let place = q.clamp(0.0, 1.0) * last as f64;
        let (below, above) = (place.floor(), place.ceil());
        // Both are indices: not negative, and not above `last`.
        let (low, high) = (sorted[below as usize], sorted[above as usize]);
        low + (high - low) * (place - below)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}
