//! A target, opened.
//!
//! Owns the choice between servers and embedded stores, so that nothing above has to make it.

use std::fmt;
use std::sync::Arc;

use crate::load::plan::LoadPlan;
use crate::load::threads::{self, Driven};
use crate::load::window::Window;
use crate::target::address::Address;
use crate::target::open::{StoreSettings, open_store};
use crate::target::store::SessionSource;
use crate::workload::{KeySpace, Workload};

/// A target, opened.
pub struct Target {
    address: Address,
    way: Way,
}

enum Way {
    Store(Box<dyn SessionSource>),
}

/// Why a target cannot be measured.
#[derive(Debug)]
pub struct TargetError {
    target: String,
    problem: String,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.target, self.problem)
    }
}

impl std::error::Error for TargetError {}

impl Target {
    /// Opens `address`.
    pub fn open(address: &Address, settings: &StoreSettings) -> Result<Self, TargetError> {
        let failed = |problem: String| TargetError {
            target: address.to_string(),
            problem,
        };
        let way = match address {
            Address::Embedded { store, directory } => Way::Store(
                open_store(*store, directory, settings)
                    .map_err(|error| failed(error.to_string()))?,
            ),
            Address::Server { .. } => return Err(failed("not yet".to_owned())),
        };
        Ok(Target {
            address: address.clone(),
            way,
        })
    }

    fn failed(&self, problem: impl fmt::Display) -> TargetError {
        TargetError {
            target: self.address.to_string(),
            problem: problem.to_string(),
        }
    }

    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its own facts: version and settings.
    pub fn facts(&self) -> Vec<(String, String)> {
        match &self.way {
            Way::Store(store) => store.store().facts(),
        }
    }

    /// Whether the store runs inside this process.
    pub fn is_embedded(&self) -> bool {
        matches!(self.way, Way::Store(_))
    }

    /// Which part of the workload's records is there, by a sample, 0 to 1.
    pub fn presence(&self, workload: &Workload) -> Result<f64, TargetError> {
        match &self.way {
            Way::Store(store) => {
                threads::presence(store.as_ref(), workload).map_err(|error| self.failed(error))
            }
        }
    }

    /// Writes all records; `progress` is told how many more are written.
    pub fn load(
        &self,
        workload: &Workload,
        plan: &LoadPlan,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), TargetError> {
        match &self.way {
            Way::Store(store) => {
                threads::load(store.as_ref(), workload, plan.threads, plan.seed, progress)
                    .map_err(|error| self.failed(error))
            }
        }
    }

    /// Runs `plan`; `seen` is shown each window.
    pub fn drive(
        &self,
        plan: &LoadPlan,
        workload: &Workload,
        space: &Arc<KeySpace>,
        seen: impl FnMut(&Window),
    ) -> Result<Driven, TargetError> {
        match &self.way {
            Way::Store(store) => threads::run(store.as_ref(), plan, workload, space, seen)
                .map_err(|error| self.failed(error)),
        }
    }
}
