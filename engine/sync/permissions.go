package sync

import (
	"github.com/edged/edged/engine/broker"
	"github.com/edged/edged/engine/keyed"
	"github.com/edged/edged/engine/record"
)

// Permissions are the subjects that a NATS user may publish to and subscribe to.
type Permissions struct {
	Publish   []string `json:"publish"`
	Subscribe []string `json:"subscribe"`
}

// BrokerName is the name of an edge's own server and its JetStream domain.
func BrokerName(device string) string { return "edge-" + record.Token(device) }

// EdgePermissions are the least that the edge of that device id needs at a hub
// with that JetStream domain: it writes below its own name, asks for the two
// streams and their newest messages, and reads answers in inboxes of its own. The
// newest message of a stream may be another edge's: the server has no narrower
// subject for that. audit adds what `edged audit` needs, which reads with
// consumers; stores are the pipelines whose keyed records it syncs.
func EdgePermissions(device, domain string, audit bool, stores ...string) Permissions {
	token := record.Token(device)
	api := broker.APIPrefix(domain)
	p := Permissions{Subscribe: []string{broker.InboxPrefix(BrokerName(device)) + ".>"}}
	for _, kind := range []Kind{Records, Messages} {
		stream := kind.hubStream()
		p.Publish = append(p.Publish, kind.hubPrefix()+"."+token+".>", kind.ledgerPrefix()+"."+token+".*",
			api+"STREAM.INFO."+stream, api+"STREAM.MSG.GET."+stream)
		if !audit {
			continue
		}
		p.Publish = append(p.Publish, api+"DIRECT.GET."+stream+"."+kind.ledgerPrefix()+"."+token+".*")
		for _, call := range []string{"CREATE", "INFO", "DELETE", "MSG.NEXT"} {
			p.Publish = append(p.Publish, api+"CONSUMER."+call+"."+stream+".>")
		}
	}
	p.Publish = append(p.Publish, keyed.EdgeSubjects(device, domain, stores)...)
	return p
}
