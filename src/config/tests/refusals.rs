//! Each mistake that a file can hold, and the beginning of what is said about it.

use super::Site;

#[test]
fn refuses_with_the_line_the_key_and_what_to_write() {
    let upstream = |keys: &str| format!("[[upstream]]\nregistry = \"ghcr.io\"\n{keys}");
    let tls = |keys: &str| format!("[server]\ntls = {{ {keys} }}");
    let key = |file: &str| tls(&format!("cert = \"server.pem\", key = \"{file}\""));
    let client_ca = |file: &str| {
        tls(&format!("cert = \"server.pem\", key = \"server.key\", client_ca = \"{file}\""))
    };
    let client_crl = |file: &str| {
        let files = "cert = \"server.pem\", key = \"server.key\", client_ca = \"server.pem\"";
        format!(
            "[[listener]]\naddress = \"127.0.0.1:5443\"\n\ntls = {{ {files}, client_crl = \"{file}\" }}"
        )
    };
    for (toml, refusal) in [
        (
            "tag_ttl = \"1m\"".to_owned(),
            "wharf.toml:1: tag_ttl: unknown key \"tag_ttl\": write one of",
        ),
        ("[fleet]".into(), "wharf.toml:1: fleet: unknown key \"fleet\": write one of server"),
        (
            "[cache]\n\ntag_tll = \"1m\"".into(),
            "wharf.toml:3: cache.tag_tll: unknown key \"tag_tll\": did you mean \"tag_ttl\"?",
        ),
        (
            upstream("regsitry = 1"),
            "wharf.toml:3: upstream.regsitry: unknown key \"regsitry\": did you mean \"registry\"?",
        ),
        ("cache = 3".into(), "wharf.toml:1: cache: integer 3 will not do: write a table: [cache]"),
        (
            "upstream = \"ghcr.io\"".into(),
            "wharf.toml:1: upstream: string \"ghcr.io\" will not do: write a list",
        ),
        (
            "[upstream]\nregistry = \"a.example\"".into(),
            "wharf.toml:1: upstream: this table may come several times",
        ),
        ("[server".into(), "wharf.toml:1: "),
        ("[cache]\ntag_ttl = \"1m\"\ntag_ttl = \"2m\"".into(), "wharf.toml:3: "),
        (
            "[limits]\nheaders = 5".into(),
            "wharf.toml:2: limits.headers: 5 will not do: write a number from 16 to 1000",
        ),
        (
            "[limits]\nheader_bytes = \"128KiB\"".into(),
            "wharf.toml:2: limits.header_bytes: \"128KiB\" will not do: write \"4KiB\" to \"64KiB\"",
        ),
        (
            "[limits]\nlist_entries = 0".into(),
            "wharf.toml:2: limits.list_entries: 0 will not do: write a number from 1 to 10000",
        ),
        (
            "[limits]\ndocument_room = \"1MiB\"".into(),
            "wharf.toml:2: limits.document_room: \"1MiB\" will not do: write \"4MiB\" to \"1GiB\"",
        ),
        (
            "[limits]\ndocument_room_per_client = 8".into(),
            "wharf.toml:2: limits.document_room_per_client: integer 8 will not do: write a size in quotes",
        ),
        (
            "[limits]\nmanifest_bytes = \"5MiB\"".into(),
            "wharf.toml:2: limits.manifest_bytes: \"5MiB\" will not do: write \"16KiB\" to \"4MiB\"",
        ),
        (
            "[limits]\nerror_bytes = \"0\"".into(),
            "wharf.toml:2: limits.error_bytes: \"0\" will not do: write \"1KiB\" to \"1MiB\"",
        ),
        (
            "[limits]\njson_depth = 4".into(),
            "wharf.toml:2: limits.json_depth: 4 will not do: write a number from 8 to 1000",
        ),
        ("[limits]\nreaders = 8".into(), "wharf.toml:2: "),
        (
            "[[upstream]]\nregistry = \"ghcr.io\"\nleast_rate = \"0B/s\"".into(),
            "wharf.toml:3: upstream.least_rate: \"0B/s\" is no least rate: write bytes per second",
        ),
        (
            "[cache]\ntag_ttl = 5".into(),
            "wharf.toml:2: cache.tag_ttl: integer 5 will not do: write a duration in quotes",
        ),
        ("[cache]\ntag_ttl = \"5\"".into(), "wharf.toml:2: cache.tag_ttl: \"5\" is not a duration"),
        (
            "[cache]\ntag_ttl = \"-1s\"".into(),
            "wharf.toml:2: cache.tag_ttl: \"-1s\" is not a duration",
        ),
        (
            "[cache]\ntag_ttl = \"9999999y\"".into(),
            "wharf.toml:2: cache.tag_ttl: \"9999999y\" is too long",
        ),
        (
            "[cache]\nrevalidate_timeout = \"0s\"".into(),
            "wharf.toml:2: cache.revalidate_timeout: \"0s\" leaves no time",
        ),
        (
            "[cache]\nmax_downloads = 0".into(),
            "wharf.toml:2: cache.max_downloads: 0 will not do: write a number from 1 to 4096",
        ),
        ("[cache]\nmax_downloads = -1".into(), "wharf.toml:2: cache.max_downloads: -1 will not do"),
        (
            "[cache]\nmax_downloads = 9999999999999".into(),
            "wharf.toml:2: cache.max_downloads: 9999999999999 will not do",
        ),
        (
            "[cache]\nmax_downloads = \"8\"".into(),
            "wharf.toml:2: cache.max_downloads: string \"8\" will not do: write a whole number",
        ),
        (
            "[cache]\nserve_stale = \"yes\"".into(),
            "wharf.toml:2: cache.serve_stale: string \"yes\" will not do: write a boolean",
        ),
        ("[cache]\ndir = \"\"".into(), "wharf.toml:2: cache.dir: an empty path"),
        (
            "[cache]\nmax_size = \"100MB/s\"".into(),
            "wharf.toml:2: cache.max_size: \"100MB/s\" is not a size: write a part of the file system",
        ),
        (
            "[cache]\nmax_size = \"32Gb\"".into(),
            "wharf.toml:2: cache.max_size: \"32Gb\" is not a size",
        ),
        (
            "[cache]\nmax_size = \"101%\"".into(),
            "wharf.toml:2: cache.max_size: \"101%\" is not a size",
        ),
        (
            "[cache]\nmax_size = \"-1GiB\"".into(),
            "wharf.toml:2: cache.max_size: \"-1GiB\" is not a size",
        ),
        (
            "[cache]\nmax_size = \"0%\"".into(),
            "wharf.toml:2: cache.max_size: \"0%\" leaves no room for an image: write at least \"1%\"",
        ),
        (
            "[cache]\nmax_size = \"1000kB\"".into(),
            "wharf.toml:2: cache.max_size: \"1000kB\" leaves no room for an image: write at least \"1MiB\"",
        ),
        (
            "[cache]\nmax_size = 80".into(),
            "wharf.toml:2: cache.max_size: integer 80 will not do: write a size in quotes, such as \"80%\"",
        ),
        (
            "[cache]\nmin_free = \"100%\"".into(),
            "wharf.toml:2: cache.min_free: \"100%\" leaves no room for an image: write at most \"99%\"",
        ),
        (
            "[cache]\nmin_free = \"plenty\"".into(),
            "wharf.toml:2: cache.min_free: \"plenty\" is not a size: write bytes with a capital B or",
        ),
        (
            "[cache]\nmin_free = 0".into(),
            "wharf.toml:2: cache.min_free: integer 0 will not do: write a size in quotes, such as",
        ),
        (
            "[cache]\nscrub = \"monthly\"".into(),
            "wharf.toml:2: cache.scrub: \"monthly\" is not a duration: write the time in which all is",
        ),
        (
            "[cache]\nscrub = \"10m\"".into(),
            "wharf.toml:2: cache.scrub: \"10m\" keeps the disk busy: write at least \"1h\", or run",
        ),
        (
            "[cache]\nscrub = false".into(),
            "wharf.toml:2: cache.scrub: boolean false will not do: write a duration in quotes, such as",
        ),
        (
            "[[prefetch.image]]\nname = \"nginx\"\npinned = \"yes\"".into(),
            "wharf.toml:3: prefetch.image.pinned: string \"yes\" will not do: write a boolean",
        ),
        (
            "[server]\nlisten = \"0.0.0.0:5000\"".into(),
            "wharf.toml:2: server.listen: string \"0.0.0.0:5000\" will not do: write a list",
        ),
        ("[server]\nlisten = []".into(), "wharf.toml:2: server.listen: nowhere to listen"),
        (
            "[server]\nlisten = [\n\"0.0.0.0:5000\",\n\":5001\"]".into(),
            "wharf.toml:4: server.listen: \":5001\" is not an address",
        ),
        (
            "[server]\nlisten = [\"[::]:1\", \"[::]:1\"]".into(),
            "wharf.toml:2: server.listen: [::]:1 is given twice",
        ),
        (
            "[server]\nmax_connections = 1.5".into(),
            "wharf.toml:2: server.max_connections: floating point 1.5 will not do",
        ),
        (
            "[server]\ntls = \"server.pem\"".into(),
            "wharf.toml:2: server.tls: string \"server.pem\" will not do: write a table, such as { cert =",
        ),
        (
            tls("certs = \"a\""),
            "wharf.toml:2: server.tls.certs: unknown key \"certs\": did you mean \"cert\"?",
        ),
        (tls(""), "wharf.toml:2: server.tls: TLS without a certificate: write cert = "),
        (tls("cert = \"server.pem\""), "wharf.toml:2: server.tls: TLS without a key: write key = "),
        (tls("key = \"server.key\""), "wharf.toml:2: server.tls: TLS without a certificate"),
        (
            tls("cert = \"missing\", key = \"server.key\""),
            "wharf.toml:2: server.tls.cert: missing does not exist",
        ),
        (
            tls("cert = \"blank\", key = \"server.key\""),
            "wharf.toml:2: server.tls.cert: blank holds no PEM certificate: write one that begins",
        ),
        (
            tls("cert = \"server.key\", key = \"server.pem\""),
            "wharf.toml:2: server.tls.cert: server.key holds no PEM certificate",
        ),
        (
            tls("cert = \"garbled.pem\", key = \"server.key\""),
            "wharf.toml:2: server.tls.cert: garbled.pem holds a certificate that cannot be read",
        ),
        (
            tls("cert = \"half.pem\", key = \"server.key\""),
            "wharf.toml:2: server.tls.cert: half.pem holds a certificate that cannot be read",
        ),
        (key("missing"), "wharf.toml:2: server.tls.key: missing does not exist"),
        (key("."), "wharf.toml:2: server.tls.key: . is a directory"),
        (key("/dev/zero"), "wharf.toml:2: server.tls.key: /dev/zero is larger than"),
        (
            key("server.pem"),
            "wharf.toml:2: server.tls.key: server.pem holds no PEM private key: write one",
        ),
        (
            key("encrypted.key"),
            "wharf.toml:2: server.tls.key: encrypted.key holds an encrypted key, and nobody",
        ),
        (
            key("old-encrypted.key"),
            "wharf.toml:2: server.tls.key: old-encrypted.key holds an encrypted key, and nobody",
        ),
        (
            key("garbled.key"),
            "wharf.toml:2: server.tls.key: garbled.key holds a key that cannot be used: write",
        ),
        (
            "[server.tls]\ncert = \"server.pem\"\n\nkey = \"other.key\"".into(),
            "wharf.toml:4: server.tls.key: other.key does not belong to the certificate: write",
        ),
        (client_ca("missing"), "wharf.toml:2: server.tls.client_ca: missing does not exist"),
        (
            client_ca("blank"),
            "wharf.toml:2: server.tls.client_ca: blank holds no PEM certificate: write",
        ),
        (
            client_ca("garbled.pem"),
            "wharf.toml:2: server.tls.client_ca: garbled.pem holds a certificate that cannot",
        ),
        (
            tls("cert = \"server.pem\", key = \"server.key\", client_crl = \"good.crl\""),
            "wharf.toml:2: server.tls.client_crl: no authority whose list this could be: write client_ca",
        ),
        (client_crl("missing"), "wharf.toml:4: listener.tls.client_crl: missing does not exist"),
        (
            client_crl("server.pem"),
            "wharf.toml:4: listener.tls.client_crl: server.pem holds no PEM list of revoked certificates: write",
        ),
        (
            client_crl("garbled.crl"),
            "wharf.toml:4: listener.tls.client_crl: garbled.crl holds a list of revoked certificates that cannot",
        ),
        (
            client_crl("forged.crl"),
            "wharf.toml:4: listener.tls.client_crl: forged.crl holds a list that says it is of CN=rcgen self signed \
             cert, and is not signed",
        ),
        (
            client_crl("strange.crl"),
            "wharf.toml:4: listener.tls.client_crl: strange.crl holds a list of CN=others, whose certificate is not in \
             client_ca: leave that list out",
        ),
        (
            client_crl("twice.crl"),
            "wharf.toml:4: listener.tls.client_crl: twice.crl holds two lists of CN=rcgen self signed cert: leave only",
        ),
        (
            tls(
                "cert = \"server.pem\", key = \"server.key\", client_ca = \"two.pem\", client_crl = \"good.crl\"",
            ),
            "wharf.toml:2: server.tls.client_crl: good.crl holds no list of CN=another, which is in client_ca: nobody",
        ),
        (
            tls("cert = \"server.pem\", key = \"server.key\", client_auth = \"required\""),
            "wharf.toml:2: server.tls.client_auth: nobody to believe about clients: write client_ca",
        ),
        (
            tls("cert = \"server.pem\", key = \"server.key\", client_auth = \"maybe\""),
            "wharf.toml:2: server.tls.client_auth: \"maybe\" will not do: write \"optional\"",
        ),
        ("[admin]\nlisten = \"\"".into(), "wharf.toml:2: admin.listen: \"\" is not an address"),
        (
            "[admin]\nlisten = \"0.0.0.0:5000\"".into(),
            "admin.listen: 0.0.0.0:5000 is also in server.listen",
        ),
        ("[log]\nformat = \"xml\"".into(), "wharf.toml:2: log.format: \"xml\" is not a log format"),
        ("[log]\nlevel = \"inof\"".into(), "wharf.toml:2: log.level: \"inof\" is not a log level"),
        ("[log]\nlevel = \"info,a=b=c\"".into(), "wharf.toml:2: log.level: "),
        (
            "\n[[upstream]]\nendpoints = [\"https://a.example\"]".into(),
            "wharf.toml:2: upstream: a registry without a name",
        ),
        (
            "[[upstream]]\nregistry = \"https://ghcr.io\"".into(),
            "wharf.toml:2: upstream.registry: not a registry host",
        ),
        (
            upstream("[[upstream]]\nregistry = \"GHCR.IO\""),
            "wharf.toml:4: upstream.registry: ghcr.io is listed twice",
        ),
        (upstream("endpoints = []"), "wharf.toml:3: upstream.endpoints: no endpoint"),
        (
            upstream("endpoints = [\"ghcr.io\"]"),
            "wharf.toml:3: upstream.endpoints: \"ghcr.io\" is not the address of a registry",
        ),
        (
            upstream("endpoints = [\"ftp://ghcr.io\"]"),
            "wharf.toml:3: upstream.endpoints: \"ftp://ghcr.io\" is not the address",
        ),
        (
            upstream("endpoints = [\"https://a.example?hunter2\"]"),
            "wharf.toml:3: upstream.endpoints: an address with a query",
        ),
        (
            upstream("endpoints = [\"https://a.example#hunter2\"]"),
            "wharf.toml:3: upstream.endpoints: an address with a query or a fragment",
        ),
        (
            upstream("endpoints = [\"https://u:hunter2@a.example\"]"),
            "wharf.toml:3: upstream.endpoints: an address with credentials",
        ),
        (
            upstream("endpoints = [\"ftp://u:hunter2@\"]"),
            "wharf.toml:3: upstream.endpoints: an address with credentials",
        ),
        (
            upstream("endpoints = [\"https://a.example\", \"https://A.example/\"]"),
            "wharf.toml:3: upstream.endpoints: https://a.example is given twice",
        ),
        (
            upstream("allow = [\"Team/*\"]"),
            "wharf.toml:3: upstream.allow: \"Team/*\" matches no repository: write",
        ),
        (upstream("deny = [\"a/***\"]"), "wharf.toml:3: upstream.deny: \"a/***\" is not a pattern"),
        (
            upstream("allow = [\"a/*\", \"a/*\"]"),
            "wharf.toml:3: upstream.allow: a/* is given twice: write it once",
        ),
        (
            "[[upstream]]\nregistry = \"docker.io\"\nallow = [\"nginx\"]".into(),
            "wharf.toml:3: upstream.allow: \"nginx\" matches nothing: on Docker Hub every repository has a namespace, \
             write \"library/nginx\"",
        ),
        (
            upstream("deny = [\"a/*\"]\n[[prefetch.image]]\nname = \"ghcr.io/a/b\""),
            "wharf.toml:5: prefetch.image.name: ghcr.io/a/b is not served: its [[upstream]] has it in deny",
        ),
        (
            "[server]\nallow_clients = [\"10.0.0.1/8\"]".into(),
            "wharf.toml:2: server.allow_clients: \"10.0.0.1/8\" is an address inside a network",
        ),
        (
            upstream("username = \"u\""),
            "wharf.toml:3: upstream.username: a username without a password",
        ),
        (
            upstream("password_file = \"one-line\""),
            "wharf.toml:3: upstream.password_file: a password without a user",
        ),
        (
            upstream("username = \"\"\npassword_file = \"one-line\""),
            "wharf.toml:3: upstream.username: not a user name",
        ),
        (
            upstream("username = \"u:v\"\npassword_file = \"one-line\""),
            "wharf.toml:3: upstream.username: not a user name",
        ),
        (
            upstream("username = \"u\"\npassword_file = \"missing\""),
            "wharf.toml:4: upstream.password_file: missing does not exist",
        ),
        (
            upstream("username = \"u\"\npassword_file = \".\""),
            "wharf.toml:4: upstream.password_file: . is a directory",
        ),
        (
            upstream("username = \"u\"\npassword_file = \"blank\""),
            "wharf.toml:4: upstream.password_file: blank is empty",
        ),
        (
            upstream("username = \"u\"\npassword_file = \"two-lines\""),
            "wharf.toml:4: upstream.password_file: two-lines holds more than one line",
        ),
        (
            upstream("username = \"u\"\npassword_file = \"/dev/zero\""),
            "wharf.toml:4: upstream.password_file: /dev/zero is larger than 65536 bytes",
        ),
        (upstream("ca = \"missing\""), "wharf.toml:3: upstream.ca: missing does not exist"),
        (
            upstream("ca = \"one-line\""),
            "wharf.toml:3: upstream.ca: one-line holds no whole PEM certificate",
        ),
        (
            upstream("realms = [\"https://auth.example/\"]"),
            "wharf.toml:3: upstream.realms: \"https://auth.example/\" is not a host",
        ),
        (
            upstream("realms = [\"auth.example:https\"]"),
            "wharf.toml:3: upstream.realms: \"auth.example:https\" is not a host: write one such as \"auth.example\" or \"auth.example:8443\"",
        ),
        (
            upstream("auth = \"both\""),
            "wharf.toml:3: upstream.auth: \"both\" is nobody's account: write \"wharf\" for the one configured",
        ),
        (
            upstream("auth_ttl = \"1m\""),
            "wharf.toml:3: upstream.auth_ttl: nothing is left to clients' accounts here: write auth = \"client\" too",
        ),
        (
            upstream("auth = \"client\"\nusername = \"x\"\npassword_file = \"p\""),
            "wharf.toml:4: upstream.username: an account of wharf's own beside auth = \"client\"",
        ),
        (
            upstream("auth = \"client\"\n[[prefetch.image]]\nname = \"ghcr.io/a/b:1\""),
            "wharf.toml:5: prefetch.image.name: ghcr.io is asked with its clients' own accounts (auth = \"client\")",
        ),
        (
            upstream(
                "auth = \"client\"\n[[compose]]\nname = \"docker.io/a/b:1\"\nplatforms = { \"linux/arm64\" = \"ghcr.io/a/b:1\" }",
            ),
            "wharf.toml:6: compose.platforms.linux/arm64: ghcr.io is asked with its clients' own accounts (auth = \"client\")",
        ),
        (
            upstream("account_for = [\"http://mirror.example\"]"),
            "wharf.toml:3: upstream.account_for: \"http://mirror.example\" is not a host",
        ),
        (
            upstream(
                "endpoints = [\"https://mirror.example:5000\"]\naccount_for = [\"mirror.example\",\n\"miror.example\"]",
            ),
            "wharf.toml:5: upstream.account_for: miror.example is no endpoint of ghcr.io: write the host of one",
        ),
        (
            upstream(
                "endpoints = [\"https://mirror.example:5000\"]\naccount_for = [\"mirror.example:443\"]",
            ),
            "wharf.toml:4: upstream.account_for: mirror.example:443 is no endpoint of ghcr.io: write the host of one, and its port",
        ),
        (
            upstream("internal = \"yes\""),
            "wharf.toml:3: upstream.internal: string \"yes\" will not do: write a boolean",
        ),
        (
            upstream("idle_timeout = \"0s\""),
            "wharf.toml:3: upstream.idle_timeout: \"0s\" leaves no time",
        ),
        (
            upstream("attempts = 0"),
            "wharf.toml:3: upstream.attempts: 0 will not do: write a number from 1 to 20",
        ),
    ] {
        refuses(&toml, refusal);
    }
}

/// That `toml` is refused with one line that begins with `refusal` and repeats no password.
pub(super) fn refuses(toml: &str, refusal: &str) {
    let site = Site::new(toml);
    site.write("one-line", "secret\n", 0o600);
    site.write("two-lines", "secret\nuser\n", 0o600);
    site.write("blank", "\n", 0o600);
    site.write_certificates();
    for (name, label, ends) in [
        ("garbled.pem", "CERTIFICATE", true),
        ("half.pem", "CERTIFICATE", false),
        ("garbled.crl", "X509 CRL", true),
        ("garbled.key", "PRIVATE KEY", true),
        ("encrypted.key", "ENCRYPTED PRIVATE KEY", true),
    ] {
        let end = if ends { format!("-----END {label}-----\n") } else { String::new() };
        site.write(name, &format!("-----BEGIN {label}-----\nAA==\n{end}"), 0o600);
    }
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
               DEK-Info: AES-256-CBC,00\n\nAA==\n-----END RSA PRIVATE KEY-----\n";
    site.write("old-encrypted.key", old, 0o600);
    let said = site.refusal();
    assert!(said.starts_with(refusal), "{toml}\n  says {said}");
    assert!(!said.contains('\n') && !said.contains("hunter2"), "{said}");
}
