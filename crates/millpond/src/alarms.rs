//! Measures memory and disk for the broker's alarms.

use crate::settings::{Settings, Watermark};
use millpond_broker::{Broker, ResourceLimits, Resources};
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What is measured where, and from where on it is an alarm.
#[derive(Debug)]
pub(crate) struct Watch {
    broker: Broker,
    data_dir: PathBuf,
    every: Duration,
    /// `None`: not known on this system, so a share of it cannot be an alarm. Bytes.
    machine_memory_bytes: Option<u64>,
    limits: Mutex<ResourceLimits>,
}

impl Watch {
    /// With the limits of the settings; looks once, so that an alarm is set before the first client comes.
    pub(crate) fn new(settings: &Settings, broker: Broker) -> Arc<Self> {
        let machine_memory_bytes = machine_memory_bytes();
        let refuse_after = settings.alarm_nack_after;
        let limits = ResourceLimits {
            memory_max_bytes: watermark_bytes(settings.memory_high_watermark, machine_memory_bytes),
            disk_free_min_bytes: settings.disk_free_min.0,
            refuse_after_ms: (!refuse_after.is_zero())
                .then(|| refuse_after.as_millis().try_into().unwrap_or(u64::MAX)),
        };
        let watch = Self {
            broker,
            data_dir: settings.data_dir.clone(),
            every: settings.alarm_check_interval.max(Duration::from_millis(10)),
            machine_memory_bytes,
            limits: Mutex::new(limits),
        };
        watch.look();
        Arc::new(watch)
    }

    /// Looks again and again, until the task is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.every).await;
            self.look();
        }
    }

    fn look(&self) {
        self.broker.check_resources(self.measure(), &self.limits());
    }

    /// What there is now.
    pub(crate) fn measure(&self) -> Resources {
        let status = std::fs::read_to_string("/proc/self/status").ok();
        let disk = rustix::fs::statvfs(&self.data_dir).ok();
        Resources {
            memory_bytes: status.and_then(|status| kib_field(&status, "VmRSS:")),
            disk_free_bytes: disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        }
    }

    /// From where on it is an alarm.
    pub(crate) fn limits(&self) -> ResourceLimits {
        *self.limits.lock()
    }

    /// Other limits, until the restart; looks at once.
    pub(crate) fn set_limits(&self, watermark: Option<Watermark>, disk_free_min_bytes: Option<u64>) {
        {
            let mut limits = self.limits.lock();
            if let Some(watermark) = watermark {
                limits.memory_max_bytes = watermark_bytes(watermark, self.machine_memory_bytes);
            }
            limits.disk_free_min_bytes = disk_free_min_bytes.unwrap_or(limits.disk_free_min_bytes);
        }
        self.look();
    }
}

/// From where on it is an alarm. Bytes.
pub(crate) fn watermark_bytes(watermark: Watermark, machine_bytes: Option<u64>) -> u64 {
    match (watermark, machine_bytes) {
        (Watermark::Bytes(bytes), _) => bytes,
        (Watermark::Share(share), Some(bytes)) => (bytes as f64 * share) as u64,
        (Watermark::Share(_), None) => u64::MAX,
    }
}

/// What this process may use: the machine's memory, or less if its control group (a container) has less. Bytes.
pub(crate) fn machine_memory_bytes() -> Option<u64> {
    let machine =
        std::fs::read_to_string("/proc/meminfo").ok().and_then(|info| kib_field(&info, "MemTotal:"));
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let group = group.and_then(|max| max.trim().parse().ok());
    [machine, group].into_iter().flatten().min()
}

/// `VmRSS:     1234 kB`, in bytes.
fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_system_writes_it() {
        let status = "Name:\tmillpond\nVmHWM:\t  9 kB\nVmRSS:\t  2048 kB\n";
        assert_eq!(kib_field(status, "VmRSS:"), Some(2 << 20));
        assert_eq!(kib_field(status, "VmSwap:"), None);
        assert!(machine_memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn a_share_is_of_the_machine_and_a_size_is_what_it_is() {
        assert_eq!(watermark_bytes(Watermark::Share(0.5), Some(100)), 50);
        assert_eq!(watermark_bytes(Watermark::Share(0.5), None), u64::MAX);
        assert_eq!(watermark_bytes(Watermark::Bytes(7), Some(100)), 7);
    }
}
