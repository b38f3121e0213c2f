//! A catalog on loopback that behaves as the real one has been seen to: RSQL filters, keyed order, pages that move when
//! rows come and go, entity tags on the chart index, and faults on demand.
//!
//! Used by the tests and by the benchmark.

#![allow(dead_code, unreachable_pub, reason = "each user takes a part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// A running stand-in; it ends with the process.
pub struct StandIn {
    base: String,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    in_flight: AtomicUsize,
}

/// What the stand-in serves, and how.
#[derive(Default)]
pub struct State {
    pub bundles: Vec<Value>,
    pub images: Vec<Value>,
    pub index: String,
    pub unpublished: Option<String>,
    /// Largest page the server gives, whatever is asked for.
    pub page_cap: usize,
    /// What the server says of its pages' size.
    pub echo: Echo,
    /// What each API answer takes.
    pub latency: Duration,
    /// The `Date` header, for clocks that are wrong.
    pub date: Option<String>,
    /// Whether `creation_date` and such are looked at in filters.
    pub ignores_filters: bool,
    /// Rows come as they stand, whatever `sort_by` says.
    pub ignores_sorting: bool,
    /// Refuses to sort by more than one key.
    pub one_sort_key: bool,
    /// Rows that are equal by what they are sorted by come in another order each time.
    pub shuffles_ties: bool,
    /// Page N begins at row N², as on 2022-05-09.
    pub squared_paging: bool,
    /// Called before each API request is answered, with its number from 0.
    pub hook: Option<Hook>,
    /// What was requested, path and decoded query.
    pub log: Vec<Request>,
    pub most_in_flight: usize,
    /// Drips that the client gave up.
    pub drips_left: usize,
}

/// What the server says of its pages' size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Echo {
    #[default]
    Truth,
    /// Whatever was asked for, although it gives fewer.
    Asked,
    Nothing,
}

/// Looks at a request, may change what is served, and says what goes wrong with the answer.
pub type Hook = Box<dyn FnMut(&mut State, usize, &Request) -> Option<Fault> + Send>;

/// A request, decoded.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub query: Vec<(String, String)>,
    pub if_none_match: Option<String>,
}

/// What goes wrong with an answer.
#[derive(Clone, Debug)]
pub enum Fault {
    Status(u16, &'static str),
    RetryAfter(u16, u32),
    Html,
    /// Half of the body, then the connection is closed; the length said was the whole.
    Cut,
    /// Half of the JSON, with a length that fits it.
    Truncated,
    Hang(Duration),
    /// The page asked for, which says that it is page 7.
    OtherPage,
    /// A byte of white space every tenth of a second, for a minute or until the client has enough of it.
    Drip,
    /// Valid JSON without `data`, status 200.
    ErrorDocument,
}

impl Request {
    pub fn get(&self, name: &str) -> &str {
        self.query.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    pub fn is_images(&self) -> bool {
        self.path.ends_with("/images")
    }

    pub fn is_sweep(&self) -> bool {
        !self.get("include").contains("csv_name") && !self.get("include").contains("image_id")
    }
}

impl StandIn {
    pub fn start(state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared { state: Mutex::new(state), in_flight: AtomicUsize::new(0) });
        let serving = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = serving.clone();
                thread::spawn(move || {
                    // A client that goes away is none of the stand-in's business.
                    let _ = serve(stream, &shared);
                });
            }
        });
        StandIn { base, shared }
    }

    pub fn api(&self) -> String {
        format!("{}/api/containers", self.base)
    }

    pub fn charts(&self) -> String {
        format!("{}/index.yaml", self.base)
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// Waits until a state is reached; a minute at most.
    pub fn wait_for(&self, reached: impl Fn(&State) -> bool) {
        for _ in 0..600 {
            if reached(&self.state()) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("the state was not reached within a minute");
    }

    /// What was requested since the last call.
    pub fn take_log(&self) -> Vec<Request> {
        std::mem::take(&mut self.state().log)
    }
}

fn serve(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or("/").to_owned();
        let mut if_none_match = None;
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let Some((name, value)) = header.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "if-none-match" => if_none_match = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink())?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        });
        let request = Request { path: path.to_owned(), query: query.collect(), if_none_match };
        let now = shared.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = answer(&request, shared, now);
        shared.in_flight.fetch_sub(1, Ordering::SeqCst);
        let Answer { status, headers, body, said_length, drips } = answer;
        let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", said_length.unwrap_or(body.len()));
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(head.as_bytes())?;
        stream.write_all(b"\r\n")?;
        if drips {
            let gone = (0..600).any(|_| {
                thread::sleep(Duration::from_millis(100));
                stream.write_all(b" ").is_err()
            });
            shared.state.lock().unwrap().drips_left += usize::from(gone);
            return Ok(());
        }
        stream.write_all(&body)?;
        if said_length.is_some() {
            return stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    said_length: Option<usize>,
    drips: bool,
}

fn plain(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Answer {
    Answer {
        status,
        headers: vec![("Content-Type", kind.to_owned())],
        body: body.into(),
        said_length: None,
        drips: false,
    }
}

fn answer(request: &Request, shared: &Shared, in_flight: usize) -> Answer {
    let started = std::time::Instant::now();
    let (fault, latency, mut answer) = {
        let mut state = shared.state.lock().unwrap();
        let Some(list) = request.path.strip_prefix("/api/containers/v1/") else {
            state.log.push(request.clone());
            return file(&state, request);
        };
        state.most_in_flight = state.most_in_flight.max(in_flight);
        let number = state.log.iter().filter(|request| request.path.starts_with("/api/")).count();
        state.log.push(request.clone());
        let mut hook = state.hook.take();
        let fault = hook.as_mut().and_then(|hook| hook(&mut state, number, request));
        if state.hook.is_none() {
            state.hook = hook;
        }
        let body = page(&state, list, request, number);
        let mut answer = match body {
            Some(body) => plain(200, "application/json", serde_json::to_vec(&body).unwrap()),
            None => plain(400, "application/json", r#"{"title":"Bad Request","detail":"unknown filter","status":400}"#),
        };
        let date = state.date.clone().unwrap_or_else(|| http_date(jiff::Timestamp::now()));
        answer.headers.push(("Date", date));
        (fault, state.latency, answer)
    };
    // What the stand-in needed for the answer is part of what the answer takes.
    thread::sleep(latency.saturating_sub(started.elapsed()));
    match fault {
        None => answer,
        Some(Fault::Status(status, body)) => plain(status, "text/plain", body),
        Some(Fault::RetryAfter(status, seconds)) => {
            let mut answer = plain(status, "application/json", r#"{"detail":"slow down"}"#);
            answer.headers.push(("Retry-After", seconds.to_string()));
            answer
        }
        Some(Fault::Html) => plain(200, "text/html", "<html><body>The request timed out</body></html>"),
        Some(Fault::Cut) => {
            answer.said_length = Some(answer.body.len());
            answer.body.truncate(answer.body.len() / 2);
            answer
        }
        Some(Fault::Truncated) => {
            answer.body.truncate(answer.body.len() / 2);
            answer
        }
        Some(Fault::Hang(time)) => {
            thread::sleep(time);
            answer
        }
        Some(Fault::OtherPage) => {
            let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
            body["page"] = json!(7);
            plain(200, "application/json", serde_json::to_vec(&body).unwrap())
        }
        Some(Fault::Drip) => Answer { said_length: Some(1 << 20), drips: true, ..answer },
        Some(Fault::ErrorDocument) => plain(200, "application/json", r#"{"title":"Internal","status":500}"#),
    }
}

fn file(state: &State, request: &Request) -> Answer {
    let body = match request.path.as_str() {
        "/index.yaml" => Some(state.index.clone()),
        "/unpublished-certified-charts.yaml" => state.unpublished.clone(),
        _ => None,
    };
    let Some(body) = body else { return plain(404, "text/plain", "not found") };
    let etag = format!("\"{:x}\"", body.bytes().fold(7u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())));
    if request.if_none_match.as_ref() == Some(&etag) {
        return plain(304, "text/plain", "");
    }
    let mut answer = plain(200, "text/yaml", body);
    answer.headers.push(("ETag", etag));
    answer
}

/// The page that is asked for; `None` for a filter or an order that cannot be read.
fn page(state: &State, list: &str, request: &Request, number_of_request: usize) -> Option<Value> {
    let rows = if list == "images" { &state.images } else { &state.bundles };
    let conditions: Vec<Condition> = request
        .get("filter")
        .split(" and ")
        .flat_map(|part| part.split(';'))
        .filter(|part| !part.is_empty())
        .map(Condition::parse)
        .collect::<Option<_>>()?;
    let holds = |row: &&Value| {
        conditions
            .iter()
            .all(|condition| (state.ignores_filters && condition.field.ends_with("_date")) || condition.holds(row))
    };
    let mut found: Vec<&Value> = rows.iter().filter(holds).collect();
    let keys: Vec<(&str, bool)> = request
        .get("sort_by")
        .split(',')
        .filter_map(|key| key.split_once('[').map(|(field, order)| (field, order.starts_with("desc"))))
        .collect();
    if state.one_sort_key && keys.len() > 1 {
        return None;
    }
    if !state.ignores_sorting {
        if state.shuffles_ties {
            // Another order for each request, and the same for the same one.
            found.sort_by_key(|row| {
                let seed = number_of_request as u64 + 1;
                text(row, "_id")
                    .bytes()
                    .fold(seed, |sum, byte| sum.wrapping_mul(6_364_136_223_846_793_005) + u64::from(byte))
                    >> 32
            });
        }
        found.sort_by(|one, other| {
            let by = |(field, down): &(&str, bool)| {
                let order = text(one, field).cmp(text(other, field));
                if *down { order.reverse() } else { order }
            };
            keys.iter().map(by).find(|order| order.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
        });
    }
    let number = |name: &str, default: usize| request.get(name).parse().unwrap_or(default);
    let cap = if state.page_cap == 0 { 500 } else { state.page_cap };
    let (page, size) = (number("page", 0), number("page_size", 100).clamp(1, cap));
    let start = if state.squared_paging { page * page } else { page * size };
    let include: Vec<&str> = request.get("include").split(',').filter(|field| !field.is_empty()).collect();
    let wanted = |name: &str| include.is_empty() || include.contains(&name);
    let total = found.len();
    let rows: Vec<Value> = found.into_iter().skip(start).take(size).map(|row| project(row, &include)).collect();
    let mut body = Map::from_iter([("data".to_owned(), Value::from(rows))]);
    let said = if state.echo == Echo::Asked { number("page_size", 100) } else { size };
    for (name, value) in [("page", page), ("page_size", said), ("total", total)] {
        if wanted(name) && (name != "page_size" || state.echo != Echo::Nothing) {
            body.insert(name.to_owned(), json!(value));
        }
    }
    Some(body.into())
}

fn project(row: &Value, include: &[&str]) -> Value {
    if include.is_empty() {
        return row.clone();
    }
    let mut kept = Map::new();
    for field in include.iter().filter_map(|field| field.strip_prefix("data.")) {
        let top = field.split('.').next().unwrap();
        if let Some(value) = row.get(top) {
            kept.insert(top.to_owned(), value.clone());
        }
    }
    kept.into()
}

fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row.get(field).and_then(Value::as_str).unwrap_or_default()
}

struct Condition {
    field: String,
    operator: &'static str,
    value: String,
}

impl Condition {
    fn parse(part: &str) -> Option<Self> {
        let part = part.trim();
        ["==", "!=", ">=", "<=", ">", "<"].into_iter().find_map(|operator| {
            let (field, value) = part.split_once(operator)?;
            let field_like = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            field.chars().all(field_like).then(|| Condition { field: field.into(), operator, value: value.into() })
        })
    }

    fn holds(&self, row: &Value) -> bool {
        let value = match row.get(&self.field) {
            Some(Value::String(text)) => text.clone(),
            None | Some(Value::Null) => "null".into(),
            Some(other) => other.to_string(),
        };
        // Nothing is neither before nor after anything.
        if value == "null" && !matches!(self.operator, "==" | "!=") {
            return false;
        }
        // Dates of one form sort as texts do; `Z` and `+00:00` do not matter within a second's digits.
        match self.operator {
            "==" => value == self.value,
            "!=" => value != self.value,
            ">=" => value >= self.value,
            "<=" => value <= self.value,
            ">" => value > self.value,
            _ => value < self.value,
        }
    }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let hex = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap()
            }
            other => other,
        });
    }
    String::from_utf8(bytes).unwrap()
}

pub fn http_date(instant: jiff::Timestamp) -> String {
    instant.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// `count` bundles in the API's form, a minute apart from 2022 on.
pub fn bundles(count: usize) -> Vec<Value> {
    (0..count).map(bundle).collect()
}

pub fn bundle(number: usize) -> Value {
    let created = date(number);
    json!({
        "_id": format!("{number:024x}"),
        "creation_date": created,
        "last_update_date": created,
        "csv_name": format!("op{}-operator.v1.{}.0", number % 97, number / 97),
        "ocp_version": format!("4.{}", 10 + number % 8),
        "channel_name": "stable",
        "package": format!("op{}", number % 97),
        "organization": "certified-operators",
    })
}

/// `count` images in the API's form.
pub fn images(count: usize) -> Vec<Value> {
    (0..count).map(image).collect()
}

pub fn image(number: usize) -> Value {
    let created = date(number);
    json!({
        "_id": format!("{:024x}", number + 0x1_0000_0000),
        "creation_date": created,
        "last_update_date": created,
        "certified": true,
        "isv_pid": "123",
        "architecture": if number.is_multiple_of(2) { "amd64" } else { "arm64" },
        "image_id": format!("sha256:{number:064x}"),
        "repositories": [{
            "registry": "registry.connect.redhat.com",
            "repository": format!("acme/app{}", number % 53),
            "manifest_list_digest": format!("sha256:{:064x}", (number / 2) + 0x1_0000_0000),
            "tags": [{"name": format!("{}", number / 53)}, {"name": "gone", "removed_date": created}],
        }],
    })
}

pub fn date(number: usize) -> String {
    let start: jiff::Timestamp = "2022-01-01T00:00:00Z".parse().unwrap();
    let instant = start + jiff::SignedDuration::from_mins(number as i64);
    instant.strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string()
}

pub fn index(versions: &[&str]) -> String {
    let entries: String = versions
        .iter()
        .map(|version| format!("  - {{name: db, version: {version}, kubeVersion: '>=1.20', annotations: {{charts.openshift.io/providerType: partner}}}}\n"))
        .collect();
    format!("apiVersion: v1\nentries:\n  acme-db:\n{entries}generated: '2026-01-01T00:00:00Z'\n")
}
