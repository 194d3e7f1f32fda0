// Failover is a small gateway to bedrock-runtime for several tenants in two regions.
// Each tenant has a role of its own. Requests that the first region cannot serve go
// to the second.
//
//	go run ./failover -region us-east-1 -fallback us-west-2 -tenants tenants.json
//
// The file of tenants holds their keys, so only the gateway should be able to read
// it. CloudTrail shows a tenant's name as that of the role's session:
//
//	[{
//		"name": "search",
//		"key": "a long random string",
//		"role": "arn:aws:iam::123456789012:role/search",
//		"externalID": "7f3a",
//		"tags": {"team": "search"}
//	}]
//
// A tenant's client sends its key as a bearer token or in X-Api-Key. Use a model that
// both regions have under the same ID.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

func main() {
	region := flag.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	fallback := flag.String("fallback", "", "`region` to try after it")
	file := flag.String("tenants", "tenants.json", "JSON `file` of the tenants")
	listen := flag.String("listen", "127.0.0.1:8080", "`address` to listen on")
	flag.Parse()

	tenants, err := readTenants(*file)
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	client, err := newSTS(ctx, *region)
	if err != nil {
		log.Fatal(err)
	}
	gateway, err := newGateway(ctx, client, tenants, *region, *fallback, newBase())
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *listen, Handler: gateway, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}

type tenant struct {
	Name       string            `json:"name"`
	Key        string            `json:"key"`
	Role       string            `json:"role"`
	ExternalID string            `json:"externalID"`
	Tags       map[string]string `json:"tags"`
}

func readTenants(file string) ([]tenant, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var tenants []tenant
	if err := json.Unmarshal(data, &tenants); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	keys := map[string]bool{}
	for i, tenant := range tenants {
		if tenant.Name == "" || tenant.Key == "" || tenant.Role == "" {
			return nil, fmt.Errorf("%s: tenant %d has no name, no key or no role", file, i+1)
		}
		if keys[tenant.Key] {
			return nil, fmt.Errorf("%s: tenant %s has the key of another", file, tenant.Name)
		}
		keys[tenant.Key] = true
	}
	if len(tenants) == 0 {
		return nil, errors.New(file + ": no tenants")
	}
	return tenants, nil
}

// newBase returns a transport that notices within seconds that a region cannot be
// reached. It has no limit for an answer: a model may take minutes.
func newBase() *http.Transport {
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DialContext = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	base.TLSHandshakeTimeout = 3 * time.Second
	// Without pings, a connection whose path has died is used for minutes. Servers that
	// count them close a connection that sends more.
	base.HTTP2 = &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second}
	return base
}

// newSTS returns a client of STS with the credentials of the SDK's default chain.
func newSTS(ctx context.Context, region string) (*sts.Client, error) {
	// A request that is not answered is given up, and the SDK tries again.
	client := awshttp.NewBuildableClient().WithTimeout(10 * time.Second)
	cfg, err := config.LoadDefaultConfig(ctx,
		config.WithDefaultRegion(region), // of STS, if neither the environment nor the profile names one
		config.WithHTTPClient(client),
		// The SDK does not use it for the endpoint of a container, and would wait there for ever.
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
	)
	if err != nil {
		return nil, err
	}
	return sts.NewFromConfig(cfg), nil
}
