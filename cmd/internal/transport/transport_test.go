package transport_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/bedrocktoken/bedrocktoken/cmd/internal/transport"
	"github.com/bedrocktoken/bedrocktoken/internal/awstest"
)

func TestMain(m *testing.M) { os.Exit(awstest.Main(m)) }

// The certificate authority of a company is named as it is for the AWS SDK.
func TestCertificateAuthority(t *testing.T) {
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	bundle := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(bundle, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	const role = "role_arn = arn:aws:iam::123456789012:role/team\nmfa_serial = arn:aws:iam::123456789012:mfa/me\nsource_profile = keys\n" +
		"[profile keys]\naws_access_key_id = AKIAME\naws_secret_access_key = secret\n"
	awstest.WriteConfig(t, "[profile none]\n[profile named]\nca_bundle = "+bundle+"\n"+role)

	for name, test := range map[string]struct {
		env     map[string]string
		profile string
		trusted bool
	}{
		"none":                   {nil, "none", false},
		"AWS_CA_BUNDLE":          {map[string]string{"AWS_CA_BUNDLE": bundle}, "none", true},
		"ca_bundle":              {nil, "named", true},
		"ca_bundle, AWS_PROFILE": {map[string]string{"AWS_PROFILE": "named"}, "", true},
		"a file read before":     {map[string]string{"AWS_CA_BUNDLE": bundle}, "gone", true},
	} {
		t.Run(name, func(t *testing.T) {
			awstest.Set(t, test.env)
			base, err := transport.New(t.Context(), test.profile)
			if err != nil {
				t.Fatal(err)
			}
			defer base.CloseIdleConnections()
			response, err := (&http.Client{Transport: base}).Get(server.URL)
			if err == nil {
				response.Body.Close()
			}
			if trusted := err == nil; trusted != test.trusted {
				t.Errorf("trusted is %v, error %v", trusted, err)
			}
		})
	}

	t.Setenv("AWS_CA_BUNDLE", filepath.Join(t.TempDir(), "missing.pem"))
	if _, err := transport.New(t.Context(), "none"); err == nil {
		t.Error("a missing file is not reported")
	}
}
