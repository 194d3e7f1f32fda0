// Package bedrocktoken makes short-term Amazon Bedrock API keys: bearer tokens
// for clients that can only send an Authorization header, made from ordinary AWS
// credentials.
//
// [ProvideToken] makes one token. A program that runs for longer than a token
// lasts keeps a [Provider] and asks it for a token for each request, or lets
// [Provider.Transport] do that:
//
//	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion("us-east-1"))
//	if err != nil {
//		log.Fatal(err)
//	}
//	client := &http.Client{Transport: provider.Transport(nil)}
//
// A token is a presigned request for bedrock:CallWithBearerToken. It is signed
// locally: only retrieving credentials uses the network. It is valid in one region,
// and for 12 hours at most: it expires with the credentials that signed it, which
// are often valid for an hour. It cannot be renewed, or revoked one by one.
//
// A token carries the permissions of the identity that signed it, which needs
// bedrock:CallWithBearerToken (for the bedrock-mantle endpoint
// bedrock-mantle:CallWithBearerToken) as well as the actions it calls.
//
// The AWS SDK's own clients sign their requests and need no token. Amazon Bedrock
// Agents, Data Automation and InvokeModelWithBidirectionalStream accept none.
//
// Sources: AWS's user guide on [API keys] and their [permissions], and the
// generators that AWS publishes for Python, Java and JavaScript.
//
// [API keys]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
// [permissions]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-permissions.html
package bedrocktoken
