// The faults of custom resources by the schemas of their projects' CRDs, as JSON: node validate.mjs OBJECTS.json
import { readFileSync } from "node:fs";
import * as gateway from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1/index";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1/index";
import * as prometheus from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index";

const KINDS = {
  "gateway.networking.k8s.io/v1": gateway,
  "keda.sh/v1alpha1": keda,
  "monitoring.coreos.com/v1": prometheus,
};

const faults = [];
for (const object of JSON.parse(readFileSync(process.argv[2], "utf8"))) {
  const Kind = KINDS[object.apiVersion]?.[object.kind];
  if (!Kind) {
    faults.push(`${object.apiVersion} ${object.kind} is not known here`);
    continue;
  }
  try {
    new Kind(object).validate();
  } catch (error) {
    faults.push(`${object.kind} ${object.metadata.name}: ${error.message}`);
  }
}
console.log(JSON.stringify(faults));
