//! What every chart has around its marks: title, legend, axes, and the figures that the pointer
//! reads.

use serde_json::Value;

use super::axis::Axis;
use super::esc;

/// The drawing is this wide and high, then stretched to the room there is.
pub(super) const WIDE: f64 = 1000.0;
/// See [`WIDE`].
pub(super) const HIGH: f64 = 400.0;

/// A chart without its marks.
pub(super) struct Frame<'a> {
    /// What it shows.
    pub(super) title: &'a str,
    /// The same in a sentence, for those who do not see it.
    pub(super) told: String,
    /// Across.
    pub(super) x: &'a Axis,
    /// Upwards.
    pub(super) y: &'a Axis,
    /// Names and classes of the marks.
    pub(super) legend: Vec<(&'a str, &'a str)>,
    /// The marks, within [`WIDE`] and [`HIGH`].
    pub(super) marks: String,
    /// What the pointer reads: `step`, `names`, `values`.
    pub(super) read: Value,
    /// Markup below the chart.
    pub(super) below: String,
    /// Classes beside `chart`.
    pub(super) class: &'a str,
    /// Height of the plot in pixels.
    pub(super) height: u32,
}

impl Frame<'_> {
    /// The chart as markup.
    pub(super) fn figure(&self) -> String {
        let mut out = format!(
            "<figure class=\"chart {}\">\n<figcaption>{}</figcaption>\n",
            self.class,
            esc(self.title)
        );
        if self.legend.len() > 1 {
            out.push_str("<ul class=\"legend\">");
            for (name, class) in &self.legend {
                out.push_str(&format!("<li><span class=\"key {class}\"></span>{}</li>", esc(name)));
            }
            out.push_str("</ul>\n");
        }
        out.push_str(&format!(
            "<p class=\"unit\" aria-hidden=\"true\">{}</p>\n",
            esc(&self.y.unit)
        ));
        out.push_str(&format!(
            "<div class=\"plot\" style=\"height:{}px\" data-read=\"{}\">\n<svg viewBox=\"0 0 \
             {WIDE} {HIGH}\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\" \
             xmlns=\"http://www.w3.org/2000/svg\">\n",
            self.height,
            esc(&self.read.to_string()),
            esc(&format!("{}. {}", self.title, self.told)),
        ));
        for tick in &self.y.ticks {
            let y = HIGH * (1.0 - tick.at);
            out.push_str(&format!("<path class=\"grid\" d=\"M0 {y:.1}H{WIDE}\"/>\n"));
        }
        out.push_str(&self.marks);
        out.push_str("</svg>\n<div class=\"ticks\" aria-hidden=\"true\">");
        for tick in &self.y.ticks {
            out.push_str(&format!(
                "<span class=\"yt\" style=\"top:{:.2}%\">{}</span>",
                100.0 * (1.0 - tick.at),
                esc(&tick.label)
            ));
        }
        for tick in &self.x.ticks {
            out.push_str(&format!(
                "<span class=\"xt\" style=\"left:{:.2}%\">{}</span>",
                100.0 * tick.at,
                esc(&tick.label)
            ));
        }
        out.push_str(&format!(
            "</div>\n</div>\n<p class=\"across\" aria-hidden=\"true\">{}</p>\n",
            esc(&self.x.unit)
        ));
        out.push_str(&self.below);
        out.push_str("</figure>\n");
        out
    }
}
