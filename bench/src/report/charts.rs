//! The charts: which figures they show, and how.

use super::Results;
use super::axis::Axis;
use super::svg::{Anchor, Drawing, Paint, Size};
use crate::case::{Preset, Sink, Subject};
use crate::figure::{short, whole};
use crate::suite::latency::{LatencyRow, RATES};
use crate::suite::relay::Relay;
use crate::suite::scale::{Point, Scale};

/// Width of a drawing in pixels.
const WIDTH: f64 = 820.0;

/// File names and their content, for what was measured.
pub fn all(results: &Results) -> Vec<(&'static str, String)> {
    let mut charts = Vec::new();
    if let Some(relay) = &results.relay {
        charts.push(("relay.svg", cpu(relay)));
    }
    if let Some(rows) = &results.latency {
        charts.push(("latency.svg", latency(rows)));
    }
    if let Some(scale) = &results.scale {
        charts.extend(scales(scale));
    }
    charts
}

struct Bar {
    name: String,
    paint: Paint,
    ns: f64,
}

/// One panel of bars for each comparison: the widest bar of a panel fills it.
fn cpu(relay: &Relay) -> String {
    let panels = [
        ("100 B, one SUB", 100, Sink::Libzmq),
        ("1 KB, one SUB", 1000, Sink::Libzmq),
        ("100 B, 16 SUBs", 100, Sink::Counting(16)),
        ("1 KB, 16 SUBs", 1000, Sink::Counting(16)),
    ];
    let subjects = [
        Subject::CRelay(4),
        Subject::Zafka(Preset::Json),
        Subject::Zafka(Preset::Packed),
        Subject::Zafka(Preset::Batch),
        Subject::CRelay(1),
        Subject::Zafka(Preset::Value),
    ];
    let (thick, gap, left, right) = (18.0, 7.0, 205.0, WIDTH - 100.0);
    let mut bars = Vec::new();
    for (title, size, sink) in panels {
        let mut panel = Vec::new();
        for subject in subjects {
            let Some(row) = relay.row(size, subject, sink) else { continue };
            panel.push(Bar { name: subject.title(), paint: paint(subject), ns: row.cpu_ns.median });
        }
        if sink == Sink::Libzmq {
            if let Some(row) = relay.row(size, Subject::Consumer, Sink::Itself) {
                panel.push(Bar {
                    name: row.subject.title(),
                    paint: Paint::Consumer,
                    ns: row.cpu_ns.median,
                });
            }
            let json = relay.row(size, Subject::Zafka(Preset::Json), sink);
            if let Some((ns, row)) = json.and_then(|row| relay.floor_ns(row).zip(Some(row))) {
                let name =
                    format!("floor: json's {} bytes", whole(row.bytes.median.round() as u64));
                panel.push(Bar { name, paint: Paint::Floor, ns });
            }
        }
        bars.push((title, panel));
    }
    let height = 60.0
        + bars
            .iter()
            .map(|(_, panel): &(&str, Vec<Bar>)| 46.0 + panel.len() as f64 * (thick + gap))
            .sum::<f64>()
        + 14.0;
    let mut drawing = Drawing::new(WIDTH, height);
    let title = "CPU for a record, Kafka to ZeroMQ";
    drawing.text(Size::Title, Anchor::Start, (20.0, 32.0), title);
    let note =
        "User and system time of the relay's process, median; each panel has a scale of its own";
    drawing.text(Size::Note, Anchor::Start, (20.0, 51.0), note);
    let mut y = 60.0;
    for (title, panel) in bars {
        y += 30.0;
        drawing.text(Size::Label, Anchor::Start, (20.0, y), title);
        y += 10.0;
        let most = panel.iter().map(|bar| bar.ns).fold(0.0, f64::max);
        for Bar { name, paint, ns } in panel {
            let width = ns / most * (right - left);
            drawing.text(Size::Note, Anchor::End, (left - 8.0, y + 13.0), &name);
            drawing.bar(paint, (left, y), width.max(1.0), thick);
            let number = format!("{} ns", short(ns));
            drawing.text(Size::Label, Anchor::Start, (left + width + 7.0, y + 13.5), &number);
            y += thick + gap;
        }
        y += 6.0;
    }
    drawing.finish(title)
}

fn paint(subject: Subject) -> Paint {
    match subject {
        Subject::Zafka(_) | Subject::Before(_) => Paint::Zafka,
        Subject::CRelay(_) => Paint::CRelay,
        Subject::Consumer => Paint::Consumer,
    }
}

/// A panel for each rate, a curve for each contestant.
fn latency(rows: &[LatencyRow]) -> String {
    let mut drawing = Drawing::new(WIDTH, 400.0);
    let title = "Latency, producer's call to receiver";
    drawing.text(Size::Title, Anchor::Start, (20.0, 32.0), title);
    drawing.text(
        Size::Note,
        Anchor::Start,
        (20.0, 51.0),
        "Each step is ten times the one below. 100 B values; zafka as json, the C relay with 4 \
         frames, to a SUB on libzmq; a plain consumer",
    );
    let rows: Vec<_> =
        rows.iter().filter(|row| !matches!(row.subject, Subject::Before(_))).collect();
    let all = || rows.iter().flat_map(|row| row.percentiles);
    let least = all().map(|figure| figure.median).fold(f64::INFINITY, f64::min);
    let most = all().map(|figure| figure.median).fold(1.0, f64::max);
    let y = Axis::decades(350.0, 90.0, least, most);
    for (rate, left) in RATES.into_iter().zip([70.0, 470.0]) {
        let right = left + 220.0;
        drawing.text(
            Size::Label,
            Anchor::Start,
            (left, 76.0),
            &format!("{} records a second", whole(rate)),
        );
        for (value, _) in y.ticks() {
            drawing.rule(Paint::Grid, (left, y.at(value)), (right, y.at(value)));
            drawing.text(Size::Note, Anchor::End, (left - 8.0, y.at(value) + 4.0), &time(value));
        }
        let x = |index: usize| left + 18.0 + index as f64 * (right - left - 36.0) / 3.0;
        for (index, name) in ["p50", "p90", "p99", "p99.9"].into_iter().enumerate() {
            drawing.text(Size::Note, Anchor::Middle, (x(index), 370.0), name);
        }
        let mut ends = Vec::new();
        for row in
            rows.iter().filter(|row| row.rate == rate && !matches!(row.sink, Sink::Counting(_)))
        {
            let points: Vec<_> = row
                .percentiles
                .iter()
                .enumerate()
                .map(|(index, f)| (x(index), y.at(f.median)))
                .collect();
            drawing.curve(paint(row.subject), &points);
            if let (Some(point), Some(figure)) = (points.last(), row.percentiles.last()) {
                let name = match row.subject {
                    Subject::Zafka(_) | Subject::Before(_) => "zafka",
                    Subject::CRelay(_) => "C relay",
                    Subject::Consumer => "consumer",
                };
                ends.push((point.1, paint(row.subject), format!("{name} {}", time(figure.median))));
            }
        }
        apart(&mut ends, 16.0);
        for (end, paint, text) in ends {
            drawing.painted(paint, Anchor::Start, (right - 8.0, end + 4.0), &text);
        }
    }
    drawing.finish(title)
}

/// A time given in microseconds.
fn time(micros: f64) -> String {
    let (value, unit) = if micros < 1000.0 { (micros, "µs") } else { (micros / 1000.0, "ms") };
    let value = if value.fract() == 0.0 { whole(value as u64) } else { short(value) };
    format!("{value} {unit}")
}

/// Moves labels down until each has its own line.
fn apart<T, U>(labels: &mut [(f64, T, U)], line: f64) {
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut next = f64::NEG_INFINITY;
    for (y, _, _) in labels {
        *y = y.max(next);
        next = *y + line;
    }
}

fn scales(scale: &Scale) -> [(&'static str, String); 3] {
    let per_peer: Vec<Point> =
        scale.active.iter().map(|point| point.per(point.count as f64)).collect();
    [
        (
            "scale-idle.svg",
            curve("CPU for a record as idle peers go up", "ns a record", "idle peers", &scale.idle),
        ),
        (
            "scale-active.svg",
            curve(
                "CPU for a record and SUB as SUBs go up",
                "ns a record and SUB",
                "SUBs that get everything",
                &per_peer,
            ),
        ),
        (
            "scale-partitions.svg",
            curve(
                "CPU for a record as partitions go up",
                "ns a record",
                "partitions",
                &scale.partitions,
            ),
        ),
    ]
}

/// One curve over a logarithmic axis, each point with its number and its spread.
fn curve(title: &str, unit: &str, axis: &str, points: &[Point]) -> String {
    let mut drawing = Drawing::new(WIDTH, 340.0);
    drawing.text(Size::Title, Anchor::Start, (20.0, 32.0), title);
    drawing.text(
        Size::Note,
        Anchor::Start,
        (20.0, 51.0),
        &format!("{unit}; zafka, json, 100 B values; least to most of the runs"),
    );
    let most = points.iter().map(|point| point.cpu_ns.max).fold(1.0, f64::max);
    let y = Axis::linear(280.0, 80.0, most);
    let count = |pick: fn(f64, f64) -> f64, from| {
        points.iter().map(|point| point.count as f64).fold(from, pick)
    };
    let x = Axis::decades(80.0, WIDTH - 60.0, count(f64::min, f64::INFINITY), count(f64::max, 1.0));
    for (value, text) in y.ticks() {
        drawing.rule(Paint::Grid, (60.0, y.at(value)), (WIDTH - 40.0, y.at(value)));
        drawing.text(Size::Note, Anchor::End, (52.0, y.at(value) + 4.0), &text);
    }
    for (value, text) in x.ticks() {
        drawing.text(Size::Note, Anchor::Middle, (x.at(value), 299.0), &text);
    }
    drawing.text(Size::Note, Anchor::Middle, (WIDTH / 2.0, 322.0), axis);
    let mut path = Vec::new();
    for point in points {
        let (at, figure) = (x.at(point.count as f64), point.cpu_ns);
        drawing.rule(Paint::Zafka, (at, y.at(figure.min)), (at, y.at(figure.max)));
        drawing.text(
            Size::Label,
            Anchor::Middle,
            (at, y.at(figure.max) - 9.0),
            &short(figure.median),
        );
        path.push((at, y.at(figure.median)));
    }
    drawing.curve(Paint::Zafka, &path);
    drawing.finish(title)
}
