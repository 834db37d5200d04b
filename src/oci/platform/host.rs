//! The platform that this program runs on.

use super::Platform;

impl Platform {
    /// The platform that this program was built for. A 32-bit ARM processor is taken for an ARMv7, until
    /// [`Platform::with_cpuinfo`] tells.
    pub fn host() -> Self {
        let little = cfg!(target_endian = "little");
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" if little => "ppc64le",
            "powerpc64" => "ppc64",
            "mips" if little => "mipsle",
            "mips64" if little => "mips64le",
            "loongarch64" => "loong64",
            architecture => architecture,
        };
        Self::new(std::env::consts::OS, architecture, None)
    }

    /// The same with the variant that Linux's `/proc/cpuinfo` tells of a 32-bit ARM processor, read as containerd
    /// reads it; as it is where that tells nothing.
    ///
    /// A 32-bit system on a 64-bit processor is `arm/v8`.
    #[must_use]
    pub fn with_cpuinfo(self, cpuinfo: &str) -> Self {
        if self.architecture() != "arm" {
            return self;
        }
        let Some(told) = field(cpuinfo, "cpu architecture") else { return self };
        let variant = match told.as_str() {
            "8" | "aarch64" => "v8",
            // Kernels say 7 of the ARMv6 of a Raspberry Pi Zero.
            "7" if is_armv6(cpuinfo) => "v6",
            "7" | "7m" | "?(12)" | "?(13)" | "?(14)" | "?(15)" | "?(16)" | "?(17)" => "v7",
            "6" | "6tej" => "v6",
            "5" | "5t" | "5te" | "5tej" => "v5",
            "4" | "4t" => "v4",
            "3" => "v3",
            _ => return self,
        };
        Self { variant: Some(variant.into()), ..self }
    }
}

fn is_armv6(cpuinfo: &str) -> bool {
    field(cpuinfo, "model name").is_some_and(|model| model.starts_with("armv6-compatible"))
}

/// The value of the first line of that name, in lower case.
fn field(cpuinfo: &str, name: &str) -> Option<String> {
    let mut fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(found, _)| found.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_a_platform_that_images_are_built_for() {
        assert!(Platform::host().is_known(), "{}", Platform::host());
    }

    #[test]
    fn an_arm_processor_is_what_its_cpuinfo_says() {
        let zero = "processor\t: 0\nmodel name\t: ARMv6-compatible processor rev 7 (v6l)\n\
                    CPU architecture: 7\nHardware\t: BCM2835\n";
        let three = "processor\t: 0\nmodel name\t: ARMv7 Processor rev 4 (v7l)\nCPU architecture: 7\n\
                     processor\t: 1\nCPU architecture: 6\n";
        let four = "processor\t: 0\nCPU architecture: 8\n";
        for (built_for, cpuinfo, runs_on) in [
            ("linux/arm/v7", zero, "linux/arm/v6"),
            ("linux/arm/v7", three, "linux/arm/v7"),
            ("linux/arm/v7", four, "linux/arm/v8"),
            ("linux/arm/v7", "CPU architecture: 5TEJ", "linux/arm/v5"),
            ("linux/arm/v7", "CPU architecture: ?(13)", "linux/arm/v7"),
            ("linux/arm/v7", "CPU architecture: new", "linux/arm/v7"),
            ("linux/arm/v7", "model name: ARMv6-compatible", "linux/arm/v7"),
            ("linux/arm64", four, "linux/arm64"),
            ("linux/arm64", "CPU architecture: AArch64", "linux/arm64"),
            ("linux/amd64", zero, "linux/amd64"),
            ("linux/arm/v7", "", "linux/arm/v7"),
        ] {
            let platform: Platform = built_for.parse().expect("a platform");
            assert_eq!(platform.with_cpuinfo(cpuinfo).to_string(), runs_on, "{cpuinfo}");
        }
    }
}
