"""Which proxy a request goes through, as curl(1) and others read `$https_proxy` and `$no_proxy`."""

from collections.abc import Mapping


def proxy_of(scheme: str, host: str, port: int, variables: Mapping[str, str]) -> str | None:
    """Return the proxy's URL for a request; None: it goes straight there. Lower-case variables win."""
    proxy = _value(f"{scheme}_proxy", variables)
    if not proxy or _is_excepted(host, port, _value("no_proxy", variables)):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _value(name: str, variables: Mapping[str, str]) -> str:
    return variables.get(name) or variables.get(name.upper()) or ""


def _is_excepted(host: str, port: int, exceptions: str) -> bool:
    """Tell whether a list names the host: itself, a domain above it, a network that its address is in, or `*`."""
    for entry in exceptions.replace(",", " ").split():
        name, _, number = entry.lower().rpartition(":")
        is_port = number.isdecimal() and (name.endswith("]") or ":" not in name)  # Or a part of an IPv6 address.
        if not is_port:
            name, number = entry.lower(), str(port)
        name = name.strip("[]").lstrip("*").lstrip(".")
        if int(number) != port:
            continue
        if entry == "*" or (name and (host == name or host.endswith(f".{name}"))) or _is_in_network(host, name):
            return True
    return False


def _is_in_network(host: str, network: str) -> bool:
    if "/" not in network:
        return False
    import ipaddress

    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
