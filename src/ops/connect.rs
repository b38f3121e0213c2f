//! Opening what references name: registries for reading and writing, stores on the disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use oci_spec::image::Descriptor;
use tempfile::TempDir;

use crate::digest::Digest;
use crate::fs::PathContext;
use crate::http::{HostTls, Http, HttpOptions, Retry};
use crate::image::store::layout;
use crate::image::{Layout, Place, Store};
use crate::ops::Error;
use crate::reference::{ImageRef, Remote};
use crate::registry::{AuthFiles, CopyReport, Registry, Repository, Source, Target};

/// How registries at one end of an operation are spoken to.
#[derive(Clone, Debug)]
pub struct Access {
    /// Settings of the HTTP client.
    pub http: HttpOptions,
    /// Files with credentials.
    pub auth: AuthFiles,
    /// Whether certificates are checked; `false` also takes plain HTTP.
    pub verify_tls: bool,
}

impl Default for Access {
    fn default() -> Self {
        Access { http: HttpOptions::default(), auth: AuthFiles::default(), verify_tls: true }
    }
}

impl Access {
    /// The files with credentials: the one that is named, which has to be there when a registry is asked, or else the `usual` ones.
    pub fn auth_files(named: Option<&std::path::Path>, usual: Vec<PathBuf>) -> AuthFiles {
        match named {
            Some(path) => AuthFiles { paths: vec![path.to_owned()], is_named: true, given: None },
            None => AuthFiles { paths: usual, ..AuthFiles::default() },
        }
    }

    /// The same for those who only want to know whether somebody answers: what does not answer soon stands in the way.
    pub fn impatient(mut self) -> Self {
        self.http = HttpOptions {
            connect_timeout: PATIENCE.min(self.http.connect_timeout),
            read_timeout: PATIENCE.min(self.http.read_timeout),
            retry: Retry { retries: 0, ..self.http.retry },
            ..self.http
        };
        self
    }

    /// Opens what a reference names for reading, and finds the image.
    pub async fn open(&self, reference: &ImageRef) -> Result<(Source, Descriptor), Error> {
        if let ImageRef::Docker(remote) = reference {
            let repository = self.repository(remote, false).await?;
            let (image, _) = repository.document(remote.target()).await?;
            return Ok((Source::Repository(repository), image));
        }
        let (store, mut image) = Store::open_image(reference)?;
        // The name is the place's, not the image's.
        image.set_annotations(None);
        Ok((Source::Store(Arc::new(store)), image))
    }

    /// The repository that a reference names, to be read or to be written, too.
    pub async fn repository(&self, remote: &Remote, write: bool) -> Result<Repository, Error> {
        Ok(self.registry(&remote.registry).await?.repository(&remote.repository, write))
    }

    /// The registry on a host, which answers.
    pub async fn registry(&self, host: &str) -> Result<Registry, Error> {
        for path in self.auth.paths.iter().filter(|_| self.auth.is_named) {
            std::fs::metadata(path).at("read", path)?;
        }
        // What is known by its digest must arrive as it is.
        let mut options = HttpOptions { gzip: false, ..self.http.clone() };
        if !self.verify_tls {
            options.hosts.push(HostTls { verify: false, ..HostTls::new(host) });
        }
        let http = Http::new(&options)?;
        Ok(Registry::connect(&http, host, self.verify_tls, &self.auth).await?)
    }
}

/// Where a copy goes.
pub struct Destination {
    /// What is written to.
    pub target: Target,
    /// A registry's tag; places on the disk name what they have got when they are finished.
    pub name: Option<String>,
    local: Option<Place>,
    /// Stands for a place that is not there, in a dry run.
    _passing: Option<TempDir>,
}

impl Destination {
    /// Opens what a reference names for writing. Nothing is made there for a dry run.
    pub async fn open(reference: &ImageRef, access: &Access, dry_run: bool) -> Result<Self, Error> {
        let ImageRef::Docker(remote) = reference else { return Destination::local(reference, dry_run) };
        let target = Target::Repository(access.repository(remote, true).await?);
        let name = remote.target.tag().map(str::to_owned);
        Ok(Destination { target, name, local: None, _passing: None })
    }

    /// Opens a place that is no registry. Nothing is made there for a dry run.
    pub fn local(reference: &ImageRef, dry_run: bool) -> Result<Self, Error> {
        if dry_run && reference.path().is_some_and(|path| !path.exists()) {
            let passing = tempfile::tempdir()?;
            let layout = Layout::create(&passing.path().join("layout"))?;
            return Ok(Destination {
                target: Target::Layout(layout),
                name: None,
                local: None,
                _passing: Some(passing),
            });
        }
        let place = Place::open(reference)?;
        let target = Target::Layout(place.layout().clone());
        Ok(Destination { target, name: None, local: Some(place), _passing: None })
    }

    /// The layout in which a place is filled that is no registry.
    pub fn layout(&self) -> Option<Layout> {
        match &self.target {
            Target::Layout(layout) => Some(layout.clone()),
            Target::Repository(_) => None,
        }
    }

    /// Makes images appear that were listed in the layout under these names.
    pub fn finish_all<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Result<(), Error> {
        let Some(mut place) = self.local else { return Ok(()) };
        for name in names {
            let image = place.layout().find(Some(name))?;
            place.add(&image, &[name.to_owned()])?;
        }
        Ok(place.finish(0)?)
    }

    /// Lists the image under its names and makes it appear; returns the digest that it has there.
    pub fn finish(self, image: &Descriptor, report: &CopyReport) -> Result<Digest, Error> {
        let Some(mut place) = self.local else { return Ok(report.digest.clone()) };
        let path = place.layout().blob_path(&report.digest);
        let size = std::fs::metadata(&path).at("read", &path)?.len();
        let copied = layout::descriptor(image.media_type().clone(), &report.digest, size);
        let names = place.names(&[]);
        let added = place.add(&copied, &names)?;
        place.finish(0)?;
        Ok(layout::digest_of(&added)?)
    }
}

/// The longest wait for a connection, and for the next byte.
const PATIENCE: Duration = Duration::from_secs(10);
