"""Makes ``twistd`` know the word ``sentinel``; there is no ``__init__.py`` beside this, as Twisted wants it."""

from twisted.application.service import ServiceMaker

from txsentinel.extensions.deferred import DeferredExtension

sentinel = ServiceMaker(
    "txsentinel",
    "txsentinel.cli.tap",
    "Monitors Redis and Valkey masters and fails over to their replicas.",
    "sentinel",
)

http = DeferredExtension(
    "http",
    "health checks, state, events and metrics over HTTP",
    "txsentinel.extensions.http.service.make_service",
)

txsentinel_template = ServiceMaker(
    "txsentinel-template",
    "txsentinel.cli.template_tap",
    "Renders files from the addresses that Sentinels publish in etcd.",
    "txsentinel-template",
)

txsentinel_proxy = ServiceMaker(
    "txsentinel-proxy",
    "txsentinel.cli.proxy_tap",
    "Passes TCP connections on to the master that Sentinels name.",
    "txsentinel-proxy",
)

template = DeferredExtension(
    "template",
    "files rendered from templates, with commands to check and reload them",
    "txsentinel.extensions.template.service.make_service",
    extra="template",
)

haproxy = DeferredExtension(
    "haproxy",
    "answers to agent checks of HAProxy, and addresses over its runtime socket",
    "txsentinel.extensions.haproxy.service.make_service",
)

consul = DeferredExtension(
    "consul",
    "keeps the addresses of masters in Consul",
    "txsentinel.extensions.consul.service.make_service",
    extra="consul",
)

webhooks = DeferredExtension(
    "webhooks",
    "events and finished failovers as signed HTTP requests",
    "txsentinel.extensions.webhooks.service.make_service",
    extra="webhooks",
)

nng = DeferredExtension(
    "nng",
    "events and answers to surveys over nng and nanomsg",
    "txsentinel.extensions.nng.service.make_service",
    extra="nng",
)

etcd = DeferredExtension(
    "etcd",
    "keeps the addresses of masters in etcd",
    "txsentinel.extensions.etcd.service.make_service",
    extra="etcd",
)

otel = DeferredExtension(
    "otel",
    "finished failovers as traces of OpenTelemetry",
    "txsentinel.extensions.otel.service.make_service",
    extra="otel",
)

dns = DeferredExtension(
    "dns",
    "keeps the addresses of masters in a zone of DNS",
    "txsentinel.extensions.dns.service.make_service",
    extra="dns",
)

kubernetes = DeferredExtension(
    "kubernetes",
    "keeps the addresses of masters in objects of Kubernetes",
    "txsentinel.extensions.kubernetes.service.make_service",
    extra="kubernetes",
)
