//! Which events count instructions on this machine, and what they leave uncorrected. Pure over the machine's facts.

use crate::sys::machine::{Cpu, Machine, Pmu};
use crate::sys::perf::Event;

/// INST_RETIRED (Arm Architecture Reference Manual, D13, PMU events): event 0x08 of every Armv8 PMU.
const ARM_INST_RETIRED: u64 = 0x08;

/// What to open for one count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Retired instructions.
    pub instructions: Event,
    /// Hardware interrupts received, to be subtracted; absent where the CPU has no such event.
    pub interrupts: Option<Event>,
    /// The one CPU to which a tree is confined, because the machine's cores are not all alike.
    pub cpu: Option<usize>,
    /// What a user should know about these counts, each a sentence.
    pub notes: Vec<String>,
    /// What makes a count differ from its definition, if anything, as a sentence.
    pub caveat: Option<String>,
}

/// The plan for `machine`, for a tree that is to be confined to `cpu`, if to any.
pub fn plan(machine: &Machine, cpu: Option<usize>) -> Plan {
    let mut plan = Plan {
        instructions: Event::INSTRUCTIONS,
        interrupts: interrupts(&machine.cpu),
        cpu,
        notes: Vec::new(),
        caveat: None,
    };
    if machine.pmus.len() > 1
        && let Some(pmu) = kind_of_core(&machine.pmus, cpu)
    {
        plan.instructions = instructions_on(pmu);
        plan.cpu = cpu.or_else(|| pmu.cpus.first().copied());
        plan.notes.push(hybrid_note(machine, pmu, plan.cpu));
        // The interrupts' event numbers are those of one-kind processors.
        plan.interrupts = None;
    }
    plan.caveat = caveat(machine, plan.interrupts.is_some());
    plan.notes.extend(plan.caveat.clone());
    plan
}

impl Plan {
    /// The same without the interrupts' event, which turned out not to work here.
    pub fn without_interrupts(&self, machine: &Machine) -> Plan {
        let uncorrected = caveat(machine, false);
        let others = self
            .notes
            .iter()
            .filter(|n| Some(*n) != self.caveat.as_ref());
        Plan {
            interrupts: None,
            notes: others.cloned().chain(uncorrected.clone()).collect(),
            caveat: uncorrected,
            ..self.clone()
        }
    }
}

/// On x86 an interrupt, exception or page fault adds one to the instructions (Weaver, Terpstra, Moore: Non-determinism
/// and overcount on modern hardware performance counter implementations, ISPASS 2013). Arm's event does not have it.
fn caveat(machine: &Machine, subtracted: bool) -> Option<String> {
    let x86 = matches!(
        machine.cpu.vendor.as_str(),
        "GenuineIntel" | "AuthenticAMD" | "HygonGenuine" | "CentaurHauls"
    );
    let text = if subtracted {
        "interrupts are subtracted from the count; a page fault may still add one instruction"
    } else {
        "each interrupt and page fault may add one instruction: this CPU has no event to subtract them by"
    };
    x86.then(|| text.to_owned())
}

/// The event that counts hardware interrupts received, for processors that are known to have it.
///
/// Intel from Sandy Bridge to the last Skylake derivatives: HW_INTERRUPTS.RECEIVED, event 0xcb, mask 0x01. AMD from K8
/// to Jaguar: 0xcf; Zen: 0x2c (measureme, `counters.rs`, has them tried on these models).
pub fn interrupts(cpu: &Cpu) -> Option<Event> {
    let config = match (cpu.vendor.as_str(), cpu.family, cpu.model) {
        ("GenuineIntel", 6, 42 | 45 | 58 | 62) => 0x01cb, // Sandy Bridge, Ivy Bridge
        ("GenuineIntel", 6, 60 | 61 | 63 | 69 | 70 | 71 | 79 | 86) => 0x01cb, // Haswell, Broadwell
        ("GenuineIntel", 6, 78 | 85 | 94 | 142 | 158 | 165 | 166) => 0x01cb, // Skylake and its kind
        ("AuthenticAMD", 15..=18 | 20..=22, _) => 0x00cf,
        ("AuthenticAMD", 23.., _) => 0x002c,
        _ => return None,
    };
    Some(Event::raw(config))
}

/// The PMU to count with where there are several: that of `cpu`, else that of the kind with the larger cores.
fn kind_of_core(pmus: &[Pmu], cpu: Option<usize>) -> Option<&Pmu> {
    match cpu {
        Some(cpu) => pmus.iter().find(|pmu| pmu.cpus.contains(&cpu)),
        None => pmus
            .iter()
            .find(|pmu| pmu.name == "cpu_core")
            .or_else(|| pmus.iter().find(|pmu| !pmu.cpus.is_empty())),
    }
}

fn instructions_on(pmu: &Pmu) -> Event {
    if pmu.name.starts_with("cpu") {
        Event::instructions_on(pmu.number)
    } else {
        Event::of_pmu(pmu.number, ARM_INST_RETIRED)
    }
}

fn hybrid_note(machine: &Machine, pmu: &Pmu, cpu: Option<usize>) -> String {
    let all: Vec<&str> = machine.pmus.iter().map(|pmu| pmu.name.as_str()).collect();
    let place = cpu.map_or_else(String::new, |cpu| {
        format!(", and the program is confined to CPU {cpu}")
    });
    format!(
        "the cores are of several kinds ({}); `{}` counts{place}",
        all.join(", "),
        pmu.name
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(vendor: &str, family: u32, model: u32) -> Cpu {
        Cpu {
            vendor: vendor.to_owned(),
            family,
            model,
            ..Cpu::default()
        }
    }

    fn pmu(name: &str, number: u32, cpus: &[usize]) -> Pmu {
        Pmu {
            name: name.to_owned(),
            number,
            cpus: cpus.to_vec(),
        }
    }

    #[test]
    fn knows_the_interrupts_event_by_vendor_family_and_model() {
        for (vendor, family, model, config) in [
            ("GenuineIntel", 6, 42, Some(0x01cb)),
            ("GenuineIntel", 6, 158, Some(0x01cb)),
            ("GenuineIntel", 6, 37, None), // Westmere: older than the event
            ("GenuineIntel", 6, 106, None), // Ice Lake: not documented
            ("AuthenticAMD", 21, 2, Some(0x00cf)),
            ("AuthenticAMD", 25, 17, Some(0x002c)),
            ("0x41", 0, 0xd0c, None),
        ] {
            let event = interrupts(&cpu(vendor, family, model));
            assert_eq!(event, config.map(Event::raw), "{vendor} {family} {model}");
        }
    }

    #[test]
    fn a_machine_of_one_kind_takes_the_generic_event() {
        let machine = Machine {
            pmus: vec![pmu("armv8_pmuv3", 8, &[])],
            cpu: cpu("0x41", 0, 0xd0c),
            ..Machine::default()
        };
        let plan = plan(&machine, None);
        assert_eq!(plan.instructions, Event::INSTRUCTIONS);
        assert_eq!((plan.cpu, plan.caveat, plan.notes.len()), (None, None, 0));
    }

    fn hybrid() -> Machine {
        Machine {
            pmus: vec![pmu("cpu_atom", 10, &[4, 5]), pmu("cpu_core", 4, &[0, 1])],
            cpu: cpu("GenuineIntel", 6, 151),
            ..Machine::default()
        }
    }

    #[test]
    fn a_hybrid_machine_counts_on_one_kind_of_core_and_names_it() {
        let plan = plan(&hybrid(), None);
        assert_eq!(plan.instructions, Event::instructions_on(4));
        assert_eq!(plan.cpu, Some(0));
        assert!(
            plan.notes[0].contains("`cpu_core` counts"),
            "{:?}",
            plan.notes
        );
    }

    #[test]
    fn a_tree_confined_to_a_small_core_is_counted_there() {
        let plan = plan(&hybrid(), Some(5));
        assert_eq!(plan.instructions, Event::instructions_on(10));
        assert_eq!(plan.cpu, Some(5));
    }

    #[test]
    fn an_uncorrected_x86_count_says_so() {
        let machine = Machine {
            cpu: cpu("GenuineIntel", 6, 94),
            ..Machine::default()
        };
        let corrected = plan(&machine, None);
        assert!(
            corrected
                .caveat
                .as_ref()
                .unwrap()
                .contains("subtracted from")
        );
        let plain = corrected.without_interrupts(&machine);
        assert!(plain.caveat.as_ref().unwrap().contains("each interrupt"));
        assert_eq!(plain.notes, [plain.caveat.unwrap()]);
    }
}
