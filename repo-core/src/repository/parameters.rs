//! Parameters that may change after init: each change is a new generation of the config, which the writers that open the
//! repository from then on follow.

use super::Repository;
use super::open::{newest_config_and_digest, put_config};
use crate::backend::Put;
use crate::error::{Error, Result};
use crate::format::config::Config;

impl Repository {
    /// Sets the percentage of parity that new packs get, 0 to 100. Handles that are open already, this one too, keep theirs.
    /// Whether that changed anything.
    pub(crate) fn set_parity_percent(&self, percent: u8) -> Result<bool> {
        self.update_config(|config| config.with_parity_percent(percent))
    }

    /// The config that the next one to open the repository will follow.
    pub(crate) fn newest_config(&self) -> Result<Config> {
        newest_config_and_digest(self.inner.backend.as_ref(), &self.inner.keys).map(|(config, _)| config)
    }

    /// Publishes the next generation of the config, unless it would say what the newest says; tries again if another client
    /// came first. Whether it was needed.
    fn update_config(&self, change: impl Fn(Config) -> Config) -> Result<bool> {
        /// Clients that change parameters at the same moment are few.
        const ATTEMPTS: usize = 16;
        let backend = self.inner.backend.as_ref();
        for _ in 0..ATTEMPTS {
            let (newest, digest) = newest_config_and_digest(backend, &self.inner.keys)?;
            let mut next = change(newest.clone());
            if next == newest {
                return Ok(false);
            }
            next.generation += 1;
            next.previous_digest = digest;
            next.check().map_err(|problem| Error::Usage(format!("these parameters are not possible: {problem}")))?;
            if put_config(backend, &self.inner.keys, &next)? == Put::Created {
                return Ok(true);
            }
        }
        Err(Error::Usage("other clients keep changing the parameters; try again".into()))
    }
}
