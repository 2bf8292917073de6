//! What people and scripts see: the only writer to standard output, and the keeper of the status line, which must be
//! gone before any other line is written.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use clap::builder::styling::Style;
use serde::Serialize;

use crate::args::Global;
use crate::exit::Outcome;

/// Standard output and standard error.
#[derive(Debug)]
pub struct Output {
    json: bool,
    verbosity: u8,
    out_is_terminal: bool,
    error_is_terminal: bool,
    out_has_color: bool,
    error_has_color: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    out: BufWriter<Stdout>,
    /// Lines of the status that stand on the terminal now; the cursor is in the last one.
    status_lines: usize,
}

impl Output {
    /// Looks at both streams once.
    pub fn new(global: &Global) -> Self {
        let colored = |choice| !matches!(choice, anstream::ColorChoice::Never);
        Self {
            json: global.json,
            verbosity: global.verbosity(),
            out_is_terminal: io::stdout().is_terminal(),
            error_is_terminal: io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
            out_has_color: colored(anstream::AutoStream::choice(&io::stdout())),
            error_has_color: colored(anstream::AutoStream::choice(&io::stderr())),
            state: Mutex::new(State { out: BufWriter::with_capacity(64 << 10, io::stdout()), status_lines: 0 }),
        }
    }

    /// Whether `--json` was given.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// 0 quiet, 1 as usual, 2 `-v`, 3 `-vv`.
    pub fn verbosity(&self) -> u8 {
        self.verbosity
    }

    /// Whether names must be escaped, and lines must fit.
    pub fn out_is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Whether a status line makes sense.
    pub fn has_status(&self) -> bool {
        self.error_is_terminal && !self.json && self.verbosity > 0
    }

    /// Columns of the terminal behind standard output; `None` if it is none.
    pub fn columns(&self) -> Option<usize> {
        self.out_is_terminal.then(terminal_columns)
    }

    /// One line, for people.
    pub fn line(&self, text: &str) -> Outcome {
        self.bytes(text.as_bytes())
    }

    /// One line of any bytes.
    pub fn bytes(&self, line: &[u8]) -> Outcome {
        let mut state = self.lock();
        state.erase_status();
        state.out.write_all(line)?;
        state.out.write_all(b"\n")?;
        if self.out_is_terminal {
            state.out.flush()?;
        }
        Ok(())
    }

    /// One line that is said at this verbosity or above, and never with `--json`.
    pub fn say(&self, verbosity: u8, text: &str) -> Outcome {
        if self.json || self.verbosity < verbosity { Ok(()) } else { self.line(text) }
    }

    /// One line of JSON.
    pub fn json(&self, value: &impl Serialize) -> Outcome {
        self.bytes(&serde_json::to_vec(value).map_err(io::Error::from)?)
    }

    /// One line of JSON that a reader waits for.
    pub fn json_now(&self, value: &impl Serialize) -> Outcome {
        self.json(value)?;
        Ok(self.flush()?)
    }

    /// Standard output for a file's content: as it is, nothing added.
    pub fn raw(&self, copy: impl FnOnce(&mut dyn Write) -> Outcome) -> Outcome {
        let mut state = self.lock();
        state.erase_status();
        copy(&mut state.out)
    }

    /// Standard output for an archive, while notes and problems may come between.
    pub fn stream(&self) -> impl Write + '_ {
        Stream(self)
    }

    /// Brings out what was written.
    pub fn flush(&self) -> io::Result<()> {
        self.lock().out.flush()
    }

    /// One line to standard error. A failure to complain cannot be complained about.
    pub fn error_line(&self, text: &str) {
        let mut state = self.lock();
        state.erase_status();
        // What was said before must stand before.
        state.out.flush().ok();
        writeln!(io::stderr(), "{text}").ok();
    }

    /// One line of JSON to standard error.
    pub fn error_json(&self, value: &impl Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.error_line(&text);
        }
    }

    /// A word on standard error, in that style if colours are welcome there.
    pub fn paint(&self, word: &str, style: Style) -> String {
        if self.error_has_color { format!("{style}{word}{style:#}") } else { word.to_owned() }
    }

    /// A line on standard output, in bold if colours are welcome there.
    pub fn bold(&self, line: &str) -> String {
        let style = Style::new().bold();
        if self.out_has_color { format!("{style}{line}{style:#}") } else { line.to_owned() }
    }

    /// Replaces the status by these lines, each cut to the terminal's width.
    pub fn status(&self, lines: &[String]) {
        let width = terminal_columns().saturating_sub(1);
        let text: Vec<_> = lines.iter().map(|line| fitting(line, width)).collect();
        let mut state = self.lock();
        // In one write: a terminal that shows the half of it flickers.
        let text = state.erasure() + &text.join("\n");
        state.status_lines = lines.len();
        io::stderr().write_all(text.as_bytes()).ok();
    }

    /// Takes the status away.
    pub fn clear_status(&self) {
        self.lock().erase_status();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Standard output, taken for each piece anew.
struct Stream<'o>(&'o Output);

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        state.erase_status();
        state.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl State {
    fn erase_status(&mut self) {
        if self.status_lines > 0 {
            io::stderr().write_all(self.erasure().as_bytes()).ok();
        }
    }

    /// What takes the status away, once written.
    fn erasure(&mut self) -> String {
        match std::mem::take(&mut self.status_lines) {
            0 => String::new(),
            1 => "\r\x1b[J".to_owned(),
            lines => format!("\r\x1b[{}A\x1b[J", lines - 1),
        }
    }
}

fn terminal_columns() -> usize {
    terminal_size::terminal_size().map_or(80, |(width, _)| usize::from(width.0).max(20))
}

/// At most `width` letters, the last one telling that there were more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// As much of the text as surely stands in one line of this width, the last letter telling that there was more. A line
/// that the terminal broke in two could not be erased. Letters from U+1100 on may be two columns wide.
fn fitting(text: &str, width: usize) -> String {
    let columns = |letter: char| if letter < '\u{1100}' { 1 } else { 2 };
    if text.chars().map(columns).sum::<usize>() <= width {
        return text.to_owned();
    }
    let mut left = width.saturating_sub(1);
    let fits = |letter: &char| left.checked_sub(columns(*letter)).inspect(|rest| left = *rest).is_some();
    text.chars().take_while(fits).chain(['…']).collect()
}

/// A table: a heading, a rule, rows whose cells may have several lines, columns two blanks apart.
#[derive(Debug)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<Vec<String>>>,
    footer: Vec<String>,
    /// The column that gives way where a line is too long.
    flexible: usize,
}

impl Table {
    /// A table with these columns; `flexible` is the one that is cut if the terminal is too narrow.
    pub fn new(heading: Vec<&'static str>, flexible: usize) -> Self {
        Self { heading, rows: Vec::new(), footer: Vec::new(), flexible }
    }

    /// A row; each cell is its lines.
    pub fn row(&mut self, cells: Vec<Vec<String>>) {
        self.rows.push(cells);
    }

    /// A line below the second rule.
    pub fn foot(&mut self, line: String) {
        self.footer.push(line);
    }

    /// Prints it.
    pub fn print(&self, output: &Output) -> Outcome {
        let widths = self.widths(output.columns());
        let rule = "-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1));
        output.line(&output.bold(&join(self.heading.iter().map(|cell| (*cell).to_owned()), &widths)))?;
        output.line(&rule)?;
        for row in &self.rows {
            let height = row.iter().map(Vec::len).max().unwrap_or(0).max(1);
            for line in 0..height {
                let cells = row.iter().map(|cell| cell.get(line).cloned().unwrap_or_default());
                output.line(&join(cells, &widths))?;
            }
        }
        output.line(&rule)?;
        self.footer.iter().try_for_each(|line| output.line(line))
    }

    fn widths(&self, columns: Option<usize>) -> Vec<usize> {
        let mut widths: Vec<_> = self.heading.iter().map(|cell| cell.chars().count()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.iter().map(|line| line.chars().count()).fold(*width, usize::max);
            }
        }
        let total = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        if let Some(excess) = columns.and_then(|columns| total.checked_sub(columns)) {
            let narrowest = self.heading[self.flexible].chars().count().max(8);
            widths[self.flexible] = widths[self.flexible].saturating_sub(excess).max(narrowest);
        }
        widths
    }
}

fn join(cells: impl Iterator<Item = String>, widths: &[usize]) -> String {
    let cells: Vec<_> = cells.zip(widths).map(|(cell, width)| format!("{:width$}", cut(&cell, *width))).collect();
    cells.join("  ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_way_in_its_flexible_column_only() {
        let mut table = Table::new(vec!["ID", "Paths", "Size"], 1);
        table.row(vec![vec!["01234567".into()], vec!["/a/very/long/path/indeed".into()], vec!["1 B".into()]]);
        assert_eq!(table.widths(None), [8, 24, 4]);
        assert_eq!(table.widths(Some(30)), [8, 14, 4]);
        assert_eq!(table.widths(Some(10)), [8, 8, 4], "never narrower than its heading or eight letters");
        assert_eq!(cut("/a/very/long", 8), "/a/very…");
    }

    #[test]
    fn a_status_line_never_needs_a_second_one() {
        assert_eq!(fitting("/a/very/long", 12), "/a/very/long");
        assert_eq!(fitting("/a/very/long", 8), "/a/very…");
        assert_eq!(fitting("/日本語", 7), "/日本語");
        assert_eq!(fitting("/日本語", 6), "/日本…");
        assert_eq!(fitting("/日本語", 5), "/日…");
    }

    #[test]
    fn erasing_goes_up_as_many_lines_as_there_are_above_and_only_once() {
        let mut state = State { out: BufWriter::new(io::stdout()), status_lines: 3 };
        assert_eq!(state.erasure(), "\r\x1b[2A\x1b[J");
        assert_eq!(state.erasure(), "");
        state.status_lines = 1;
        assert_eq!(state.erasure(), "\r\x1b[J");
    }
}
