//! Why counts differ: the runs of a command, and beneath each that parts from the first, where and why.

use super::super::number::{counted, grouped, signed};
use super::super::{Paint, View, words};
use super::field;
use crate::model::explanation::{Explanation, Finding, OtherAnswer, Trial};

/// Every run against the first.
pub fn explain(explanation: &Explanation, view: &View) -> String {
    let mut out = format!(
        "{}\n",
        view.paint(Paint::Strong, &words::shown_line(&explanation.subject))
    );
    let first = format!("{} instructions", grouped(explanation.instructions));
    out.push_str(&field("first run", Paint::Plain, &first, view));
    for trial in &explanation.trials {
        out.push_str(&line(trial, view));
        if let Some(finding) = &trial.finding {
            out.push_str(&self::finding(finding, view));
        }
    }
    out.push_str(&closing(explanation, view));
    out
}

fn line(trial: &Trial, view: &View) -> String {
    let name = trial
        .disturbance
        .map_or("same again", |disturbance| disturbance.name());
    let moved = i128::from(trial.instructions) - i128::from(trial.against);
    let (paint, mut text) = match (trial.agrees, moved) {
        (true, _) => (Paint::Good, "agrees in every block".to_owned()),
        (false, 0) => (
            Paint::Warn,
            "as many instructions, but not the same ones".to_owned(),
        ),
        (false, moved) => (Paint::Bad, format!("{} instructions", signed(moved))),
    };
    if let Some(ending) = words::ending(trial.outcome) {
        text = format!("{text}; {ending}");
    }
    if let Some(note) = &trial.note {
        text = format!("{text} ({note})");
    }
    field(name, paint, &text, view)
}

/// Where and why, a line each.
pub fn finding(finding: &Finding, view: &View) -> String {
    let mut out = String::new();
    let mut say = |label: &str, paint, text: String| {
        out.push_str(&field(&format!("  {label}"), paint, &text, view));
    };
    let what = if finding.branch { "branch in " } else { "" };
    let before = grouped(finding.after_instructions);
    say(
        "parts at",
        Paint::Strong,
        format!("{what}{}, after {before} instructions", finding.at),
    );
    let (one, two) = finding.executions;
    let times = format!("{} against {}", counted_times(one), counted_times(two));
    match &finding.leads_to {
        Some(spot) => say("leads to", Paint::Plain, format!("{spot}: {times}")),
        None => say("executed", Paint::Plain, times),
    }
    if let Some(spot) = &finding.called_by {
        say("called by", Paint::Plain, spot.to_string());
    }
    if let Some(spot) = &finding.earlier {
        say(
            "earlier",
            Paint::Faint,
            format!("start-up code parts before, in {spot}"),
        );
    }
    say("cause", Paint::Warn, finding.cause.words().to_owned());
    for answer in &finding.answers {
        say("answer", Paint::Plain, self::answer(answer));
    }
    say("remedy", Paint::Good, finding.remedy.clone());
    out
}

fn counted_times(count: u64) -> String {
    match usize::try_from(count) {
        Ok(count) => counted(count, "time"),
        Err(_) => format!("{} times", grouped(count)),
    }
}

fn answer(answer: &OtherAnswer) -> String {
    let mut text = answer.call.clone();
    if let Some(file) = &answer.file {
        text = format!("{text} of `{file}`");
    }
    if !(answer.first.is_empty() && answer.second.is_empty()) {
        text = format!("{text}: {}, then {}", answer.first, answer.second);
    }
    match &answer.by {
        Some(spot) => format!("{text}, asked by {spot}"),
        None => text,
    }
}

fn closing(explanation: &Explanation, view: &View) -> String {
    let trials = &explanation.trials;
    let parted = trials.iter().filter(|trial| !trial.agrees).count();
    let runs = counted(trials.len() + 1, "run");
    let undisturbed = trials.iter().all(|trial| trial.disturbance.is_none());
    let text = match (parted, undisturbed) {
        (0, true) => {
            format!(
                "{runs} agree in every block; change conditions on purpose with `--disturb all`"
            )
        }
        (0, false) => format!("{runs} agree in every block, whatever was changed"),
        (parted, _) => format!("{parted} of {} differ", counted(trials.len(), "run")),
    };
    format!("{}\n", view.paint(Paint::Strong, &text))
}
