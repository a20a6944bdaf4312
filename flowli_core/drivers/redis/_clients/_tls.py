"""A warning about clients whose TLS does not prove which server they talk to."""

from flowli_core._logger import logger


def warn_of_weak_tls(*, checks_certificate: bool, checks_host_name: bool, to: str = "Redis", where: str = "") -> None:
    """Log a warning if any server with some certificate can pose as the store, or as one of its Sentinels."""
    if checks_certificate and checks_host_name:
        return
    cure = "set ssl_check_hostname=True" if checks_certificate else 'set ssl_cert_reqs="required"'
    what = "host name in the certificate" if checks_certificate else "certificate"
    logger.warning("TLS to %s is not safe: the client does not check the server's %s; %s%s", to, what, cure, where)


def warn_of_plain_sentinels() -> None:
    """Log a warning about Sentinels without TLS: who answers in their place can name another server as the master."""
    logger.warning(
        "TLS to Redis is not safe: the Sentinels, which say where Redis is, are asked without TLS; "
        "set ssl=True in the sentinel_kwargs of the Sentinel client"
    )
