//! Switches that break one rule of the protocol each, so that the simulation can show that it would notice. Compiled only
//! with the feature `mutants`, which nothing but the tests of this project asks for; without it every switch is `false` at
//! compile time.

/// Whether a rule is broken on purpose.
#[cfg(feature = "mutants")]
pub fn is_active(name: &str) -> bool {
    // A simulation breaks rules in its own processes alone; tests of other things run beside it.
    if let Some(is_broken) = crate::world::ask(|world| world.is_mutant(name)) {
        return is_broken;
    }
    ACTIVE.read().unwrap_or_else(std::sync::PoisonError::into_inner).as_deref() == Some(name)
}

#[cfg(feature = "mutants")]
static ACTIVE: std::sync::RwLock<Option<String>> = std::sync::RwLock::new(None);

/// Breaks this rule from now on, in all of this process; `None`: none.
#[cfg(feature = "mutants")]
pub fn activate(name: Option<&str>) {
    *ACTIVE.write().unwrap_or_else(std::sync::PoisonError::into_inner) = name.map(str::to_owned);
}

/// `true` if the rule of this name is broken on purpose.
macro_rules! mutant {
    ($name:literal) => {{
        #[cfg(feature = "mutants")]
        {
            $crate::mutants::is_active($name)
        }
        #[cfg(not(feature = "mutants"))]
        {
            false
        }
    }};
}
pub(crate) use mutant;
