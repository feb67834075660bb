//! A drawing in SVG: a few shapes and texts, with colors for a light and for a dark background.

use std::fmt::Write;

/// The way something is painted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// zafka.
    Zafka,
    /// The C relay.
    CRelay,
    /// The plain consumer.
    Consumer,
    /// The floor.
    Floor,
    /// Axes and grid.
    Grid,
}

/// The point at which a text is anchored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// The text starts there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// The size of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// The title.
    Title,
    /// A heading within the drawing, or a label of something painted.
    Label,
    /// Ticks and notes.
    Note,
}

/// A point of the drawing, in pixels from the left and the top.
pub type At = (f64, f64);

/// A drawing that grows.
#[derive(Debug)]
pub struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

/// Fonts and sizes; the colors are of [`COLORS`].
const STYLE: &str = "\
text { font-family: system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif }
.title { font-size: 17px; font-weight: 600 } \
.label { font-size: 13px; paint-order: stroke; stroke-width: 4px; stroke-linejoin: round } \
.note { font-size: 12px } .name { font-weight: 600 }
.line { fill: none; stroke-width: 2.2; stroke-linejoin: round } \
.thin { fill: none; stroke-width: 1 }
";

/// Class, color on a light ground, color on a dark one. Blue and orange are told apart by people
/// who see few colors. Written out for each use: not every viewer knows CSS variables.
const COLORS: [(&str, &str, &str); 8] = [
    ("ground", "#ffffff", "#0d1117"),
    ("ink", "#1f2328", "#e6edf3"),
    ("faint", "#59636e", "#9198a1"),
    ("zafka", "#2563b8", "#6ea8fe"),
    ("c-relay", "#c2410c", "#fb923c"),
    ("consumer", "#6b7280", "#9ca3af"),
    ("floor", "#aab2bd", "#59636e"),
    ("grid", "#dde2e8", "#2b3138"),
];

/// The style sheet.
fn style() -> String {
    type Color = (&'static str, &'static str, &'static str);
    let rules = |pick: fn(&Color) -> &'static str| {
        let rule = |entry: &Color| {
            let (class, color) = (entry.0, pick(entry));
            format!(
                ".{class} {{ fill: {color} }} .{class}.line, .{class}.thin {{ \
                 fill: none; stroke: {color} }}\n"
            )
        };
        COLORS.iter().map(rule).collect::<String>()
    };
    let (light, dark) = (rules(|entry| entry.1), rules(|entry| entry.2));
    // A label keeps clear of the lines behind it.
    let [on_light, on_dark] =
        [COLORS[0].1, COLORS[0].2].map(|ground| format!(".label {{ stroke: {ground} }}\n"));
    format!("{STYLE}{on_light}{light}@media (prefers-color-scheme: dark) {{\n{on_dark}{dark}}}")
}

impl Paint {
    fn class(self) -> &'static str {
        match self {
            Self::Zafka => "zafka",
            Self::CRelay => "c-relay",
            Self::Consumer => "consumer",
            Self::Floor => "floor",
            Self::Grid => "grid",
        }
    }
}

impl Drawing {
    /// An empty drawing.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A filled rectangle with its upper left corner at `at`.
    pub fn bar(&mut self, paint: Paint, at: At, width: f64, height: f64) {
        self.put(&format!(
            "<rect class=\"{}\" x=\"{:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
             height=\"{height:.1}\" rx=\"2\"/>",
            paint.class(),
            at.0,
            at.1
        ));
    }

    /// A thin straight line.
    pub fn rule(&mut self, paint: Paint, from: At, to: At) {
        self.put(&format!(
            "<line class=\"thin {}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            paint.class(),
            from.0,
            from.1,
            to.0,
            to.1
        ));
    }

    /// A line through points, with a dot on each.
    pub fn curve(&mut self, paint: Paint, points: &[At]) {
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.put(&format!(
            "<polyline class=\"line {}\" points=\"{}\"/>",
            paint.class(),
            path.join(" ")
        ));
        for (x, y) in points {
            let class = paint.class();
            self.put(&format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"));
        }
    }

    /// A text in the usual color.
    pub fn text(&mut self, size: Size, anchor: Anchor, at: At, text: &str) {
        self.put_text(None, size, anchor, at, text);
    }

    /// A text in the color of what it names.
    pub fn painted(&mut self, paint: Paint, anchor: Anchor, at: At, text: &str) {
        self.put_text(Some(paint), Size::Label, anchor, at, text);
    }

    /// The file.
    pub fn finish(self, title: &str) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
             width=\"{width}\" height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n\
             <title>{title}</title>\n<style>\n{style}\n</style>\n\
             <rect class=\"ground\" width=\"{width}\" height=\"{height}\" rx=\"6\"/>\n\
             {body}</svg>\n",
            title = escaped(title),
            style = style(),
        )
    }

    fn put_text(&mut self, name: Option<Paint>, size: Size, anchor: Anchor, at: At, text: &str) {
        let class = match (name, size) {
            (Some(paint), _) => format!("label name {}", paint.class()),
            (None, Size::Title) => "title ink".to_owned(),
            (None, Size::Label) => "label ink".to_owned(),
            (None, Size::Note) => "note faint".to_owned(),
        };
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.put(&format!(
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            at.0,
            at.1,
            escaped(text)
        ));
    }

    fn put(&mut self, element: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "{element}");
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_text() {
        let mut drawing = Drawing::new(10.0, 10.0);
        drawing.text(Size::Note, Anchor::End, (1.0, 2.0), "a < b & \"c\"");
        let svg = drawing.finish("<t>");
        assert!(svg.contains(">a &lt; b &amp; &quot;c&quot;</text>"), "{svg}");
        assert!(svg.contains("<title>&lt;t&gt;</title>"), "{svg}");
    }
}
