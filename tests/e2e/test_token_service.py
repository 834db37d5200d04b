"""A registry behind a token service: wharf pulls with an account there, and nobody gets to see password or token."""

from lib.checks import expect, fetched_exactly, same
from lib.clients import Libcontainers
from lib.line import Line
from lib.net import ask
from lib.procs import read
from lib.registry import Upstream

USER, PASSWORD = "site-account", "planted-Secret-2b7d"
WRONG = "planted-Mistake-c41e"
DEMO, SINGLE = "library/demo", "library/single"


def test_engines_pull_with_a_token_that_nobody_gets_to_see(site):
    workspace, demo, single = site.workspace, site.hub.images[DEMO, "latest"], site.hub.images[SINGLE, "latest"]
    service = site.new_token_service("tokens", {USER: PASSWORD})
    hub = Upstream(workspace, "hub-tokens", storage=site.hub.storage, tokens=service)
    hub.images = site.hub.images
    line = Line(hub.address)
    wharf = behind(site, "wharf-tokens", line, PASSWORD)
    for name in (DEMO, SINGLE):
        same(ask(hub.address, f"/v2/{name}/manifests/latest").status, 401, f"the answer to nobody for {name}")

    # Clients that have no account, and are asked for none.
    engine = site.new_engine(wharf)
    engine.pull("demo")
    same(engine.inspect("demo")["RepoDigests"], [f"demo@{demo.digest}"], "demo's RepoDigests")
    same(engine.endpoints_tried(), {wharf.url}, "where the engine went")
    pod = Libcontainers(workspace, {"docker.io": f"{wharf.address}/docker.io"}, name="pod-tokens")
    image_id = pod.podman("pull", f"docker.io/{SINGLE}:latest").out.strip()
    same(f"sha256:{image_id}", single.platforms["linux/amd64"][1], "podman's image")
    wharf.quiet()
    fetched_exactly(hub, demo.below("linux/amd64") | single.below())

    # What the registry was shown are tokens, each for one repository and for pulling alone.
    seen = line.authorizations()
    same({scheme for scheme, _ in seen}, {"Bearer"}, "how wharf has signed in at the registry")
    tokens = {token for _, token in seen}
    expect(tokens and tokens <= set(service.tokens), "the registry was shown a token that nobody has given")
    asked = {(USER, f"repository:{name}:pull", 200) for name in (DEMO, SINGLE)}
    same(set(service.asked), asked, "what the token service was asked for")
    same(len(service.asked), len(asked), "how often it was asked")
    # A refusal is wharf's own.
    answer = wharf.ask("/v2/library/demo/manifests/never")
    same((answer.status, answer.headers["WWW-Authenticate"]), (404, None), "the answer for a tag that is not there")
    said = f"{answer.headers}{answer.body}"
    expect(not any(token in said for token in service.tokens), f"the answer tells a token: {said}")
    expect(wharf.command("inspect", "demo").code == 0, "wharf inspect")
    expect("library/demo" in read(wharf.service.err), "the log tells nothing at all")
    engine.stop()
    wharf.stop()
    line.close()
    hub.stop()
    site.nobody_left()


def test_a_refused_password_is_seen_by_nobody_either(site):
    site.plant(WRONG)
    service = site.new_token_service("tokens-refusing", {USER: PASSWORD})
    hub = Upstream(site.workspace, "hub-refusing", storage=site.hub.storage, tokens=service)
    line = Line(hub.address)
    wharf = behind(site, "wharf-refused", line, WRONG)
    engine = site.new_engine(wharf)
    expect(engine.pull("demo", check=False).code != 0, "the engine pulled without an account")
    # What wharf refuses, an engine asks of Docker Hub, and meets the tripwire.
    asked = site.tripwire.take()
    expect(all("docker.io" in one for one in asked), f"asked for outside of wharf: {asked}")
    refused = wharf.command("pull", "demo", check=False)
    same(refused.code, 1, f"the exit code of wharf pull\n{refused}")
    expect("docker.io" in refused.err, f"wharf pull does not say who refused\n{refused}")
    expect((USER, f"repository:{DEMO}:pull", 401) in service.asked, f"the token service was asked for {service.asked}")
    # Whoever looks why sees it.
    status = wharf.command("status").out
    expect("REFUSES wharf's account" in status, f"the status does not tell of the account\n{status}")
    told = read(wharf.service.err).count("the registry answered wharf's account with 401")
    same(told, 1, "how often the log tells of the account")
    same(service.tokens, [], "the tokens that were given")
    same({scheme for scheme, _ in line.authorizations()}, set(), "how wharf has signed in at the registry")
    engine.stop()
    wharf.stop()
    line.close()
    hub.stop()


def behind(site, name, line, password):
    """A wharf with this account, in front of the registry at the other end of the line; its log has all it can say."""
    file = site.workspace.path(name, "password")
    file.write_text(f"{password}\n")
    file.chmod(0o600)
    account = f'username = "{USER}"\npassword_file = "password"\n'
    return site.new_wharf(name, {"docker.io": [line.url]}, upstream=account, more='\n[log]\nlevel = "trace"\n')
