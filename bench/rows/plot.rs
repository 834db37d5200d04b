//! The picture of a run: how much better or worse wharf did than each of the others, a bar for each.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::{DrawingArea, IntoDrawingArea as _, PathElement, Rectangle, SVGBackend, Text},
    style::{
        Color as _, IntoFont as _, RGBColor, ShapeStyle, TextStyle, WHITE,
        text_anchor::{HPos, Pos, VPos},
    },
};

use super::support::{
    Result,
    machine::Machine,
    report::{Figure, Ratio, Report},
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: i32 = 1100;
/// Above the bars, and below.
const HEAD: i32 = 92;
const FOOT: i32 = 44;
/// A row's name, and one of its bars.
const NAME: i32 = 26;
const BAR: i32 = 17;
/// Where the axis begins and ends.
const LEFT: i32 = 250;
const RIGHT: i32 = 1010;

const INK: RGBColor = RGBColor(33, 37, 41);
const FAINT: RGBColor = RGBColor(222, 226, 230);
const MIDDLE: RGBColor = RGBColor(134, 142, 150);

/// Of the axis, as far as they lie on it.
const TICKS: [f64; 13] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// The ends of a logarithmic axis.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
}

/// Draws the medians of all ratios, with a thin line from the least to the most; turned over where less is better.
pub(crate) fn draw(report: &Report, path: &Path) -> Result<()> {
    let rows: Vec<_> = report.rows.iter().filter(|row| row.ratios.iter().any(is_known)).collect();
    let bars = || rows.iter().flat_map(|row| row.ratios.iter().filter(|ratio| is_known(ratio)));
    let height =
        HEAD + FOOT + NAME * i32::try_from(rows.len())? + BAR * i32::try_from(bars().count())?;
    let axis = Axis::over(bars().map(|ratio| goodness(ratio, 0.5)));
    let size = (u32::try_from(WIDTH)?, u32::try_from(height)?);
    let area = SVGBackend::new(path, size).into_drawing_area();
    area.fill(&WHITE)?;
    head(&area, report)?;
    axis.draw(&area, height)?;
    let mut y = HEAD;
    for row in &rows {
        write(&area, &row.name, (12, y + NAME / 2 + 3), HPos::Left, 14.0, &INK)?;
        y += NAME;
        for ratio in row.ratios.iter().filter(|ratio| is_known(ratio)) {
            bar(&area, axis, ratio, y + BAR / 2)?;
            y += BAR;
        }
    }
    area.present()?;
    Ok(())
}

fn head(area: &Area<'_>, report: &Report) -> Result<()> {
    let Machine { cpu, cores, memory_mib, kernel, .. } = &report.machine;
    write(area, "wharf beside others: right of 1 is better", (12, 20), HPos::Left, 20.0, &INK)?;
    let on = report
        .server_cpus
        .as_ref()
        .map_or_else(|| "nothing pinned".to_owned(), |cpus| format!("servers on core {cpus}"));
    let machine = format!(
        "{cores} cores ({cpu}), {memory_mib} MiB, Linux {kernel}, {on}; medians, thin line: least to most"
    );
    write(area, &machine, (12, 42), HPos::Left, 12.0, &MIDDLE)?;
    let mut x = LEFT;
    for (figure, told, width) in [
        (Figure::Speed, "speed ÷ theirs, their time ÷ wharf's", 240),
        (Figure::Cpu, "their CPU time ÷ wharf's", 170),
        (Figure::Memory, "their memory ÷ wharf's", 0),
    ] {
        area.draw(&Rectangle::new([(x, 57), (x + 12, 69)], colour(figure).filled()))?;
        write(area, told, (x + 18, 64), HPos::Left, 12.0, &INK)?;
        x += width + 20;
    }
    Ok(())
}

fn bar(area: &Area<'_>, axis: Axis, ratio: &Ratio, y: i32) -> Result<()> {
    let value = goodness(ratio, 0.5);
    let (one, end) = (axis.x(1.0), axis.x(value));
    let (least, most) = (axis.x(goodness(ratio, 0.0)), axis.x(goodness(ratio, 1.0)));
    let label = match ratio.of {
        Figure::Cpu => format!("{}, CPU", ratio.peer),
        _ => ratio.peer.clone(),
    };
    write(area, &label, (LEFT - 8, y), HPos::Right, 12.0, &INK)?;
    let body = [(one.min(end), y - 5), (one.max(end), y + 5)];
    area.draw(&Rectangle::new(body, colour(ratio.of).filled()))?;
    let thin = [(least.min(most), y), (least.max(most), y)];
    area.draw(&PathElement::new(thin, ShapeStyle::from(&INK).stroke_width(1)))?;
    let text = if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    let beyond = end.max(least).max(most).max(one);
    write(area, &text, (beyond + 6, y), HPos::Left, 12.0, &INK)
}

impl Axis {
    /// From a half to two at least, and to the ticks around all values.
    fn over(values: impl Iterator<Item = f64>) -> Self {
        values.fold(Self { low: 0.5, high: 2.0 }, |Self { low, high }, value| Self {
            low: TICKS.into_iter().rfind(|tick| *tick <= value).unwrap_or(TICKS[0]).min(low),
            high: TICKS.into_iter().find(|tick| *tick >= value).unwrap_or(TICKS[12]).max(high),
        })
    }

    /// Where a value is; at the nearer end, if it is beyond it.
    fn x(self, value: f64) -> i32 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        LEFT + (share.clamp(0.0, 1.0) * f64::from(RIGHT - LEFT)).round() as i32
    }

    fn draw(self, area: &Area<'_>, height: i32) -> Result<()> {
        for tick in TICKS.into_iter().filter(|tick| (self.low..=self.high).contains(tick)) {
            let x = self.x(tick);
            let (colour, width) = if tick == 1.0 { (INK, 2) } else { (FAINT, 1) };
            let line = [(x, HEAD), (x, height - FOOT + 4)];
            area.draw(&PathElement::new(line, ShapeStyle::from(&colour).stroke_width(width)))?;
            write(area, &tick.to_string(), (x, HEAD - 9), HPos::Center, 12.0, &MIDDLE)?;
            write(area, &tick.to_string(), (x, height - FOOT + 14), HPos::Center, 12.0, &MIDDLE)?;
        }
        let (y, one) = (height - FOOT + 32, self.x(1.0));
        write(area, "← wharf worse", (one - 12, y), HPos::Right, 12.0, &MIDDLE)?;
        write(area, "wharf better →", (one + 12, y), HPos::Left, 12.0, &MIDDLE)
    }
}

fn write(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    side: HPos,
    size: f64,
    colour: &RGBColor,
) -> Result<()> {
    let font = ("sans-serif", size).into_font();
    let style = TextStyle::from(font).color(colour).pos(Pos::new(side, VPos::Center));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

const fn colour(figure: Figure) -> RGBColor {
    match figure {
        Figure::Speed | Figure::Time => RGBColor(66, 133, 196),
        Figure::Cpu => RGBColor(230, 159, 76),
        Figure::Memory => RGBColor(123, 174, 106),
    }
}

/// How many times as good as the peer wharf was, in a share `q` of the repetitions at most.
fn goodness(ratio: &Ratio, q: f64) -> f64 {
    let value = ratio.series.quantile(q);
    if ratio.of.less_is_better() { value.recip() } else { value }
}

fn is_known(ratio: &Ratio) -> bool {
    let median = ratio.series.median();
    median.is_finite() && median > 0.0
}
