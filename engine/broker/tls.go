package broker

import "crypto/tls"

// ClientConfig loads the files for the side that dials. It reads the files
// each time it is called.
func (f TLSFiles) ClientConfig() (*tls.Config, error) { return f.client() }

// ServerConfig loads the files for the side that listens. With a CA, peers
// must show a certificate it signed.
func (f TLSFiles) ServerConfig() (*tls.Config, error) { return f.server() }
