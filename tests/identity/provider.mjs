// A certified OpenID provider that we did not write, as a configuration may name it:
// `node provider.mjs MODULES PORT JWKS`, the last being the public keys of the app that signs.
const [modules, port, jwks] = process.argv.slice(2);
const { default: Provider } = await import(`${modules}/oidc-provider/lib/index.js`);

const device = "urn:ietf:params:oauth:grant-type:device_code";
const app = { response_types: [], redirect_uris: [], grant_types: ["client_credentials"], scope: "mail" };
const provider = new Provider(`http://localhost:${port}`, {
  clients: [
    {
      client_id: "person",
      application_type: "native",
      token_endpoint_auth_method: "none",
      grant_types: ["authorization_code", "refresh_token", device],
      redirect_uris: ["http://localhost/callback"],
      response_types: ["code"],
    },
    { ...app, client_id: "app", client_secret: "app-secret", token_endpoint_auth_method: "client_secret_post" },
    {
      ...app,
      client_id: "signed",
      token_endpoint_auth_method: "private_key_jwt",
      token_endpoint_auth_signing_alg: "PS256",
      jwks: JSON.parse(jwks),
    },
  ],
  claims: { openid: ["sub"], profile: ["preferred_username"] },
  conformIdTokenClaims: false,
  cookies: { keys: ["only for tests"] },
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
  },
  findAccount: async (_, id) => ({
    accountId: id,
    claims: async () => ({ sub: id, preferred_username: id }),
  }),
  pkce: { required: () => true },
  rotateRefreshToken: true,
  scopes: ["openid", "offline_access", "profile", "mail"],
  ttl: { AccessToken: 3600, ClientCredentials: 3600, IdToken: 3600, RefreshToken: 86400, Grant: 86400, Session: 600, Interaction: 600, DeviceCode: 600 },
});
provider.listen(Number(port), "127.0.0.1", () => console.log("listening"));
