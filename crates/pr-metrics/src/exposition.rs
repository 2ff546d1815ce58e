//! The text by which metrics are read: OpenMetrics 1.0, by `prometheus-client`.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use pr_server::State;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use crate::Counters;

/// MIME type of the text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Labels of a sample: name and value.
type Labels<'a, const N: usize> = [(&'a str, &'a str); N];

impl Counters {
    /// Returns all counters, and `state`, as OpenMetrics text. `version` is the program's; `slow` is how long a command runs
    /// before it counts as slow.
    pub fn exposition(self: &Arc<Self>, state: State, version: &'static str, slow: Duration) -> String {
        let mut registry = Registry::default();
        let counters = Arc::clone(self);
        registry.register_collector(Box::new(Scrape { counters, state, version, slow }));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

/// Everything that one scrape shows.
#[derive(Debug)]
struct Scrape {
    counters: Arc<Counters>,
    state: State,
    version: &'static str,
    slow: Duration,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.encode_build(&mut encoder)?;
        self.encode_commands(&mut encoder)?;
        self.encode_clients(&mut encoder)?;
        self.encode_devices(&mut encoder)
    }
}

impl Scrape {
    fn encode_build(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let mut build =
            encoder.encode_descriptor("pr_helper_build", "Version of the helper.", None, MetricType::Info)?;
        build.encode_info(&[("version", self.version)])
    }

    fn encode_commands(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let opcodes = &self.counters.opcodes;
        let help = "Commands that clients have sent, by how they ended.";
        let samples = opcodes.iter().flat_map(|opcode| {
            opcode.actions.iter().flat_map(|(action, outcomes)| {
                outcomes.iter().map(|(outcome, count)| {
                    ([("opcode", &*opcode.name), ("service_action", &**action), ("outcome", outcome)], count)
                })
            })
        });
        encode_counters(encoder, "pr_helper_commands", help, samples)?;

        let help = "Time that devices took for the commands that they were given.";
        let unit = Some(&Unit::Seconds);
        let mut family =
            encoder.encode_descriptor("pr_helper_command_duration", help, unit, MetricType::Histogram)?;
        for opcode in opcodes {
            let snapshot = opcode.duration.snapshot();
            let labels = [("opcode", &*opcode.name)];
            family.encode_family(&labels)?.encode_histogram::<Labels<'_, 0>>(
                snapshot.sum,
                snapshot.count,
                &snapshot.buckets,
                None,
            )?;
        }

        let help = "Commands that were refused for their descriptor, by reason.";
        let samples = self.counters.refused.iter().map(|(reason, count)| ([("reason", reason)], count));
        encode_counters(encoder, "pr_helper_descriptors_refused", help, samples)
    }

    fn encode_clients(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let accepted = self.counters.accepted.load(Ordering::Relaxed);
        let help = "Clients that have connected.";
        encode_counters(encoder, "pr_helper_clients_accepted", help, [([], accepted)])?;
        let help = "Clients whose connection the helper has closed, by reason.";
        let samples = self.counters.dropped.iter().map(|(reason, count)| ([("reason", reason)], count));
        encode_counters(encoder, "pr_helper_clients_dropped", help, samples)?;
        let connections = &self.state.connections;
        let help = "Clients that are connected.";
        encode_gauges(encoder, "pr_helper_clients", help, [([], connections.len())])?;
        let running = connections.iter().filter_map(|connection| connection.running);
        let slow = running.filter(|running| running.begun.elapsed() >= self.slow).count();
        let help = "Commands that have been in flight for longer than --slow.";
        encode_gauges(encoder, "pr_helper_slow_commands", help, [([], slow)])
    }

    fn encode_devices(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let devices = &self.state.devices;
        let in_flight = devices.iter().map(|(name, load)| ([("device", &**name)], load.in_flight));
        let help = "Commands that the device has been given and has not answered.";
        encode_gauges(encoder, "pr_helper_device_commands_in_flight", help, in_flight)?;
        let waiting = devices.iter().map(|(name, load)| ([("device", &**name)], load.waiting));
        let help = "Commands that wait for another command to the device to end.";
        encode_gauges(encoder, "pr_helper_device_commands_waiting", help, waiting)?;
        let help = "I_T nexuses through which several client processes have registered keys: they cannot fence each other.";
        encode_gauges(encoder, "pr_helper_shared_nexus", help, [([], self.state.shared_nexuses.len())])?;
        let help = "Internal errors that cost a client its connection.";
        encode_counters(encoder, "pr_helper_panics", help, [([], self.state.panics)])
    }
}

fn encode_counters<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, u64)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in samples {
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn encode_gauges<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (Labels<'a, N>, usize)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in samples {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Instant};

    use pr_backend::Nexus;
    use pr_server::{DeviceLoad, Registrant};

    use super::*;

    #[test]
    fn names_and_labels_are_as_documented() {
        let load = DeviceLoad { in_flight: 2, waiting: 1 };
        let devices = BTreeMap::from([("block device 8:0".to_owned(), load)]);
        let registrant = |pid| Registrant { pid, uid: 107, is_of_other_server: false };
        let shared_nexuses = vec![(Nexus::host_wide("7:0:0 naa.1"), vec![registrant(1), registrant(2)])];
        let (started, connections) = (Instant::now(), Vec::new());
        let state = State { started, connections, devices, shared_nexuses, panics: 3 };
        let counters = Arc::new(Counters::new(&["partition"]));
        counters.opcodes[0].duration.observe(Duration::from_millis(2));
        let text = counters.exposition(state, "1.2.3", Duration::from_secs(10));
        for line in [
            "# TYPE pr_helper_build info",
            "pr_helper_build_info{version=\"1.2.3\"} 1",
            "pr_helper_commands_total{opcode=\"persistent_reserve_in\",service_action=\"read_keys\",outcome=\"good\"} 0",
            "# UNIT pr_helper_command_duration_seconds seconds",
            "pr_helper_command_duration_seconds_count{opcode=\"persistent_reserve_in\"} 1",
            "pr_helper_command_duration_seconds_sum{opcode=\"persistent_reserve_in\"} 0.002",
            "pr_helper_descriptors_refused_total{reason=\"partition\"} 0",
            "pr_helper_clients_accepted_total 0",
            "pr_helper_clients_dropped_total{reason=\"deadline\"} 0",
            "pr_helper_clients 0",
            "pr_helper_slow_commands 0",
            "pr_helper_device_commands_in_flight{device=\"block device 8:0\"} 2",
            "pr_helper_device_commands_waiting{device=\"block device 8:0\"} 1",
            "pr_helper_shared_nexus 1",
            "pr_helper_panics_total 3",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\nis not in\n{text}");
        }
        for (bound, count) in [("0.001", 0), ("0.0025", 1), ("60.0", 1), ("+Inf", 1)] {
            let has = |line: &&str| {
                line.contains(&format!("le=\"{bound}\"")) && line.contains("persistent_reserve_in")
            };
            let line = text.lines().find(has).unwrap_or_else(|| panic!("no bucket {bound} in {text}"));
            assert!(line.ends_with(&format!(" {count}")), "{line}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
