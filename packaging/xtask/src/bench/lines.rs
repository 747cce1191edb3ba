//! What every benchmark prints, and how it sums up samples.

/// One line of a result.
#[allow(clippy::print_stdout, reason = "the figures are this command's output")]
pub(super) fn say(line: &str) {
    println!("{line}");
}

/// The `q`-quantile by the nearest rank. Not a number when there is nothing.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len().saturating_sub(1) as f64 * q).round() as usize;
    sorted.get(rank).copied().unwrap_or(f64::NAN)
}
