//! Describes the machine of a measurement, without which figures cannot be compared.

use std::fs;

use serde::Serialize;
use vitstream::Isa;

/// The machine, as far as the system describes it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    /// The processor's name; absent if the system does not report it.
    cpu: Option<String>,
    architecture: &'static str,
    system: &'static str,
    /// The widest instruction set available to the native runtime.
    instruction_set: &'static str,
    /// Number of threads that can run at once.
    cores: Option<usize>,
    /// The clock in MHz at one moment: an estimate, because clocks change all the time.
    mhz: Option<f64>,
}

impl Machine {
    pub(crate) fn this() -> Self {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let clock = fs::read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").ok();
        let kilohertz = clock.and_then(|text| text.trim().parse::<f64>().ok());
        Self {
            cpu: field(&info, &["model name", "Model", "Hardware"]).map(str::to_owned),
            architecture: std::env::consts::ARCH,
            system: std::env::consts::OS,
            instruction_set: Isa::widest().name(),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            mhz: kilohertz
                .map(|clock| clock / 1e3)
                .or_else(|| field(&info, &["cpu MHz"])?.parse().ok())
                .filter(|mhz| *mhz > 0.0),
        }
    }
}

/// The value of the first of `names` in `/proc/cpuinfo`: x86 and ARM use different names.
fn field<'t>(info: &'t str, names: &[&str]) -> Option<&'t str> {
    let fields = || info.lines().filter_map(|line| line.split_once(':'));
    let of = |name: &&str| fields().find(|(key, _)| key.trim() == *name).map(|(_, value)| value.trim());
    names.iter().find_map(of).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_named_as_their_systems_do() {
        let x86 = "processor\t: 0\nmodel name\t: AMD EPYC\ncpu MHz\t\t: 2596.130\n\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(field(x86, &["model name", "Model"]), Some("AMD EPYC"));
        assert_eq!(field(x86, &["cpu MHz"]), Some("2596.130"));
        let arm = "processor\t: 0\nBogoMIPS\t: 108.00\n\nModel\t\t: Raspberry Pi 5 Model B Rev 1.0\n";
        assert_eq!(field(arm, &["model name", "Model"]), Some("Raspberry Pi 5 Model B Rev 1.0"));
        assert_eq!(field("", &["model name"]), None);
    }

    #[test]
    fn a_machine_has_an_instruction_set_and_a_core() {
        let machine = Machine::this();
        assert_ne!(machine.instruction_set, "auto");
        assert!(machine.cores.is_none_or(|cores| cores > 0) && machine.mhz.is_none_or(|mhz| mhz > 1.0));
    }
}
