//! The work on the charts: both lists, and when they are taken. What is wrong with them costs the charts only.

use std::collections::BTreeMap;

use url::Url;

use crate::catalog::chart_index::{self, Index};
use crate::catalog::charts::{self, Fetched};
use crate::catalog::entry::{Instant, Kind};
use crate::catalog::snapshot::{Error, How, KindReport, SnapshotOptions, Taken, guard};
use crate::catalog::store::{self, Draft, KindInfo, Open};
use crate::causes;
use crate::http::{Http, shown, without_secrets};

/// The work on the charts.
pub(super) struct ChartJob<'a> {
    pub(super) draft: &'a Draft,
    pub(super) http: &'a Http,
    /// Where the index is.
    pub(super) index: &'a Url,
    /// What the old snapshot has of charts, wherever they are from.
    pub(super) old: Option<&'a KindInfo>,
    pub(super) open: Open,
    pub(super) options: &'a SnapshotOptions,
}

impl ChartJob<'_> {
    /// Brings the charts up to date. Until both lists are known to be good, the draft's charts are as they were.
    pub(super) async fn run(&self) -> Result<Taken, Error> {
        let index = self.index;
        let source = without_secrets(index);
        let before = self.old.filter(|old| old.source == source && old.rows > 0);
        // A draft that was gone on with may hold newer charts than the snapshot whose entity tags we know.
        let known = before.filter(|_| self.open != Open::Resumed);
        let unpublished = charts::unpublished_url(index);
        let etag = |url: &Url| known.and_then(|old| old.etags.get(&without_secrets(url))).map(String::as_str);
        let (published, others) = tokio::try_join!(
            charts::fetch(self.http, index, etag(index), before.is_some()),
            charts::fetch(self.http, &unpublished, etag(&unpublished), before.is_some()),
        )?;
        let mut report = KindReport { how: How::Unchanged, ..KindReport::default() };
        let mut etags = BTreeMap::new();
        let mut lists = Vec::new();
        for (url, fetched, is_unpublished) in [(index, published, false), (&unpublished, others, true)] {
            let (list, fresh) = match fetched {
                Fetched::Unchanged => {
                    etags.extend(etag(url).map(|etag| (without_secrets(url), etag.to_owned())));
                    continue;
                }
                Fetched::Absent if is_unpublished => {
                    report.notes.push(format!(
                        "{}: there is no list of unpublished certified charts; it is taken as empty",
                        shown(url)
                    ));
                    (Index::default(), None)
                }
                Fetched::Absent => return Err(Error::NoIndex { url: Box::new(url.clone()) }),
                Fetched::Index { index, etag } => (index, etag),
            };
            // What is odd must be said each time, so that such a list is read each time.
            etags.extend(fresh.filter(|_| list.odd.is_empty()).map(|etag| (without_secrets(url), etag)));
            report.how = How::Full;
            lists.push((shown(url), list, is_unpublished));
        }
        let taken = Instant::now();
        let info = KindInfo { source, taken, walked: taken, etags, ..KindInfo::default() };
        self.draft.transaction(|draft| {
            for (url, list, is_unpublished) in lists {
                put(draft, list, is_unpublished, &url, &mut report)?;
            }
            guard(draft, Kind::Chart, &info, self.old, self.options)
        })?;
        if let (Some(old), new) = (self.old, self.draft.answers(Kind::Chart)?)
            && new < old.answers
        {
            report.notes.push(format!("charts: {new} of {} are left; an index does not say why", old.answers));
        }
        Ok((Some(info), report))
    }

    /// What there is where the charts could not be had: what there was.
    pub(super) fn kept(&self, error: &Error) -> Taken {
        let report = KindReport { how: How::Kept, failed: Some(causes::line(error)), ..KindReport::default() };
        // The draft may hold newer charts than the old snapshot had; then no entity tag is known for them.
        let old = self.old.map(|old| match self.open {
            Open::Resumed => KindInfo { etags: BTreeMap::new(), ..old.clone() },
            _ => old.clone(),
        });
        (old, report)
    }
}

/// Puts what one of the two lists holds in place of those that are there, and says what is to be known of it.
pub(super) fn put(
    draft: &Draft,
    list: Index,
    unpublished: bool,
    place: &str,
    report: &mut KindReport,
) -> Result<(), store::Error> {
    let Index { mut charts, odd, .. } = list;
    report.read += charts.len() as u64;
    report.odd.extend(odd.into_iter().map(|odd| format!("{place}: {odd}")));
    report.notes.extend(chart_index::replace_unusable_constraints(&mut charts));
    for chart in &mut charts {
        chart.unpublished = unpublished;
    }
    draft.replace_charts(&charts, unpublished)
}
