//! Parameters that may change after init: each change is a new generation of the config, which the writers that open the
//! repository from then on follow.

use super::Repository;
use super::open::{NewestConfig, newest_config, put_config};
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
        self.read_newest_config().map(|newest| newest.config)
    }

    /// The same, with what it takes to write the next one.
    pub(super) fn read_newest_config(&self) -> Result<NewestConfig> {
        newest_config(self.inner.backend.as_ref(), &self.inner.keys, self.inner.interim_config)
    }

    /// As [`publish_config`](Self::publish_config), by the owner if there is one.
    fn update_config(&self, change: impl Fn(Config) -> Config) -> Result<bool> {
        self.require_owner()?;
        self.publish_config(change)
    }

    /// Publishes the next generation of the config, unless it would say what the newest says; tries again if another client
    /// came first. Whether it was needed.
    pub(super) fn publish_config(&self, change: impl Fn(Config) -> Config) -> Result<bool> {
        /// Clients that change parameters at the same moment are few.
        const ATTEMPTS: usize = 16;
        let backend = self.inner.backend.as_ref();
        self.check_generations()?;
        for _ in 0..ATTEMPTS {
            let NewestConfig { config: newest, digest, highest_generation } = self.read_newest_config()?;
            let mut next = change(newest.clone());
            if next == newest {
                return Ok(false);
            }
            next.generation = highest_generation + 1;
            next.previous_digest = digest;
            next.check().map_err(|problem| Error::Usage(format!("these parameters are not possible: {problem}")))?;
            if put_config(backend, &self.inner.keys, &next)? == Put::Created {
                return Ok(true);
            }
        }
        Err(Error::Usage("other clients keep changing the parameters; try again".into()))
    }
}
